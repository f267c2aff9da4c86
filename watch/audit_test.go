package watch

import "fmt"

// audit finds fault with the store: for tests.
func (s *store) audit() error {
	for i := uint32(1); i < s.dirs.n; i++ {
		d := s.dirs.at(i)
		if d.node == 0 || d.flags&dirAttached == 0 {
			continue
		}
		n := s.node(d.node)
		if n.dir != i {
			return fmt.Errorf("dir %d of node %d: the node has dir %d", i, d.node, n.dir)
		}
		count := uint32(0)
		for c := d.first; c != 0; c = s.node(c).next {
			count++
			if s.node(c).parent != d.node {
				return fmt.Errorf("node %d %q in the list of %d has parent %d", c, s.name(c), d.node, s.node(c).parent)
			}
			if k := s.child(d.node, s.name(c)); k != c {
				return fmt.Errorf("node %d %q of %d: the name finds %d", c, s.name(c), d.node, k)
			}
			if count > d.count {
				return fmt.Errorf("node %d has more children than %d", d.node, d.count)
			}
		}
		if n.parent != 0 && (!s.alive(n.parent) || s.dir(n.parent).flags&dirAttached == 0) {
			return fmt.Errorf("dir node %d %q: parent %d is not in the tree", d.node, s.name(d.node), n.parent)
		}
	}
	return nil
}
