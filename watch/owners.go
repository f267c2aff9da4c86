package watch

import "slices"

// owners are the refs under which directories are watched, by what a source calls a directory. Almost always it is one. It is two
// where a directory is in two roots at once, or was renamed from one to the other and not everybody has looked yet:
// each is told of everything, and is left alone when the other one lets go.
type owners[K comparable] struct {
	first map[K]DirRef
	rest  map[K][]DirRef // the others, in the order in which they came
}

func newOwners[K comparable]() owners[K] { return owners[K]{first: make(map[K]DirRef)} }

func (o *owners[K]) add(k K, ref DirRef) {
	switch first, ok := o.first[k]; {
	case !ok:
		o.first[k] = ref
	case first != ref && !slices.Contains(o.rest[k], ref):
		if o.rest == nil {
			o.rest = make(map[K][]DirRef)
		}
		o.rest[k] = append(o.rest[k], ref)
	}
}

// drop takes a ref away, and says whether nobody is left.
func (o *owners[K]) drop(k K, ref DirRef) (none bool) {
	first, ok := o.first[k]
	if !ok {
		return true
	}
	rest := o.rest[k]
	if first == ref {
		if len(rest) == 0 {
			delete(o.first, k)
			return true
		}
		o.first[k], ref = rest[0], rest[0]
	}
	if rest = slices.DeleteFunc(rest, func(r DirRef) bool { return r == ref }); len(rest) > 0 {
		o.rest[k] = rest
	} else {
		delete(o.rest, k)
	}
	return false
}

// all lists them.
func (o *owners[K]) all(k K) []DirRef {
	first, ok := o.first[k]
	if !ok {
		return nil
	}
	return append([]DirRef{first}, o.rest[k]...)
}

// copies appends a record for each of the others, after one was made for the first. A cookie becomes another one in each: the n-th owner of where
// something was renamed from belongs to the n-th one of where it went. That they are of one root is likely, and what is of two is paired by identity.
func (o *owners[K]) copies(out []Record, k K, rec Record) []Record {
	for i, ref := range o.rest[k] {
		c := rec
		if c.Dir = ref; c.Cookie != 0 {
			c.Cookie ^= uint32(i+1) << 24
		}
		out = append(out, c)
	}
	return out
}

// held are records that found no room yet.
type held []Record

// give moves as many of them as there is room for, and says how many.
func (h *held) give(recs []Record) int {
	n := copy(recs, *h)
	*h = slices.Delete(*h, 0, n)
	return n
}
