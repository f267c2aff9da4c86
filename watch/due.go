package watch

import "time"

// dueDirs are directories in which something is to be done, and when. Asking whether anything is due costs nothing, however many they are.
type dueDirs struct {
	at    map[ref]time.Time
	first time.Time // none is due before
}

func (d *dueDirs) put(r ref, due time.Time) {
	if d.at == nil {
		d.at = make(map[ref]time.Time)
	}
	if len(d.at) == 0 || due.Before(d.first) {
		d.first = due
	}
	d.at[r] = due
}

// add is put for a directory that may be there, and then stays as it is.
func (d *dueDirs) add(r ref, due time.Time) {
	if _, ok := d.at[r]; !ok {
		d.put(r, due)
	}
}

func (d *dueDirs) drop(r ref)             { delete(d.at, r) }
func (d *dueDirs) empty() bool            { return len(d.at) == 0 }
func (d *dueDirs) due(now time.Time) bool { return len(d.at) > 0 && !now.Before(d.first) }

// take gives at most so many of those that are due, and forgets them.
func (d *dueDirs) take(now time.Time, most int) (out []ref) {
	if !d.due(now) {
		return nil
	}
	d.first = now.Add(time.Hour)
	for r, due := range d.at {
		switch {
		case now.Before(due):
		case len(out) < most:
			out = append(out, r)
			continue
		}
		if due.Before(d.first) {
			d.first = due
		}
	}
	for _, r := range out {
		delete(d.at, r)
	}
	return out
}
