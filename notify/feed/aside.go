package feed

import (
	"slices"

	"fs_notify/notify"
)

// Aside is what an array of notifications has told to have left, and not where to. Who mirrors a directory sets that aside until the array
// ends, in case it comes back: then it is as it was. But what comes back by itself is told with all that is in it, as it may have changed where
// nobody looked. So the two must not be in one array. The zero value is an array without notifications.
type Aside struct{ ids map[notify.FileID]struct{} }

// Returns says whether something of this comes back in an operation, which are hits that are glued together: another array has to begin with it.
func (a *Aside) Returns(op []Hit) bool {
	if len(a.ids) == 0 {
		return false
	}
	for i := range op {
		n := op[i].Note
		if !movedTo.Has(n.Type) {
			continue
		}
		if _, ok := a.ids[n.ID()]; ok && !tells(op[:i], movedFrom, n.ID()) {
			return true
		}
	}
	return false
}

// Add notes what leaves in an operation.
func (a *Aside) Add(op []Hit) {
	for i := range op {
		n := op[i].Note
		if !movedFrom.Has(n.Type) || tells(op[i+1:], movedTo, n.ID()) {
			continue
		}
		if a.ids == nil {
			a.ids = make(map[notify.FileID]struct{})
		}
		a.ids[n.ID()] = struct{}{}
	}
}

// Clear begins another array.
func (a *Aside) Clear() { a.ids = nil }

// Together is how many of the first hits of a part may be in one array: operations as a whole.
func Together(hits []Hit) int {
	var a Aside
	for n := 0; n < len(hits); {
		end := n + Operation(hits[n:])
		if a.Returns(hits[n:end]) {
			return n
		}
		a.Add(hits[n:end])
		n = end
	}
	return len(hits)
}

// Operation is how many of the first hits are glued together; there is one at least.
func Operation(hits []Hit) int {
	n := 1
	for hits[n-1].Glued && n < len(hits) {
		n++
	}
	return n
}

var (
	movedFrom = notify.SetOf(notify.ChildFileMovedFrom, notify.ChildDirMovedFrom)
	movedTo   = notify.SetOf(notify.ChildFileMovedTo, notify.ChildDirMovedTo)
)

// tells says whether one of the hits is of these types and of an object.
func tells(op []Hit, types notify.TypeSet, id notify.FileID) bool {
	return slices.ContainsFunc(op, func(h Hit) bool { return types.Has(h.Note.Type) && h.Note.ID() == id })
}
