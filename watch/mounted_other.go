//go:build !linux

package watch

// mounted would tell of mounts and unmounts.
type mounted struct{}

func (m *mounted) changed() bool { return false }
func (m *mounted) close()        {}
