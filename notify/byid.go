package notify

// ByID gives a batch in the order for those who know entries by their IDs, and for whom a directory ends with all that is in it: it is b itself, but where something leaves
// a directory only after that was told to have ended, since it takes its name or that of something above. By paths that is moved_from, the end of
// the directory, moved_to. Here the end comes after moved_to, and by as much earlier what was between: each place in the batch keeps its Seq, and links lead where they
// should. What Width says of Seqs does not hold then.
func (b *Batch) ByID() *Batch {
	type move struct{ from, to int }
	var open []move // renames with something between the halves
	for i := range b.Notes {
		if n := &b.Notes[i]; n.Link > n.Seq && i+1 < len(b.Notes) && b.Notes[i+1].Seq != n.Link {
			if to, ok := b.Place(n.Link); ok {
				open = append(open, move{i, to})
			}
		}
	}
	if len(open) == 0 {
		return b
	}
	behind := map[int][]int{} // for the second half of a rename, what comes after it
	late := map[int]bool{}
	for i := range b.Notes {
		n, after := &b.Notes[i], -1
		if late[i] || n.Type != ChildDirRemoved && n.Type != ChildDirMovedFrom {
			continue
		}
		for _, m := range open {
			if m.from < i && i < m.to && m.to > after && b.Notes[m.from].ID() != n.ID() && b.Notes[m.from].Below(n.ID()) >= 0 {
				after = m.to
			}
		}
		if after < 0 {
			continue
		}
		late[i], behind[after] = true, append(behind[after], i)
		if k, ok := b.Place(n.Link); ok && i < k && k < after { // with its other half
			late[k], behind[after] = true, append(behind[after], k)
		}
	}
	if len(late) == 0 {
		return b
	}
	out := *b
	out.Notes = make([]Notification, 0, len(b.Notes))
	moved := make(map[Seq]Seq, len(b.Notes))
	var put func(i int)
	put = func(i int) {
		moved[b.Notes[i].Seq] = b.Notes[len(out.Notes)].Seq
		out.Notes = append(out.Notes, b.Notes[i])
		for _, k := range behind[i] {
			put(k)
		}
	}
	for i := range b.Notes {
		if !late[i] {
			put(i)
		}
	}
	for i := range out.Notes {
		n := &out.Notes[i]
		n.Seq, n.Link = moved[n.Seq], moved[n.Link]
	}
	return &out
}
