package watch_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"fs_notify/notify"
	"fs_notify/watch"
	"fs_notify/watch/watchtest"
)

// notebook is a past that remembers trees by their notes only.
type notebook struct {
	mu    sync.Mutex
	notes map[notify.FileID][]byte
	gone  []notify.FileID
}

func (m *notebook) LoadTree(context.Context, notify.FileID, watch.PastEntry) ([]byte, notify.BatchNumber, error) {
	return nil, 0, &notify.Error{Kind: notify.NotFound}
}

func (m *notebook) ResetTree(_ context.Context, _ notify.FileID, _ []byte, walk func(watch.PastEntry) error) (notify.BatchNumber, error) {
	return 0, walk(func(notify.FileID, string, notify.FileID, *notify.Attr) error { return nil })
}

func (m *notebook) AmendTree(context.Context, notify.FileID, []byte, func(notify.FileID, *notify.Attr) bool) error {
	return nil
}

func (m *notebook) TreeNotes() map[notify.FileID][]byte { return m.notes }

func (m *notebook) ForgetTree(root notify.FileID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gone = append(m.gone, root)
	return nil
}

// A root that left the configuration is forgotten. One that is served under its name is not, though another directory is there
// now: it may be hidden below a mount point.
func TestRootsThatLeftTheConfigurationAreForgotten(t *testing.T) {
	for _, tt := range []struct {
		forget bool
		want   []notify.FileID
	}{{true, []notify.FileID{7}}, {false, nil}} {
		past := &notebook{notes: map[notify.FileID][]byte{
			7: []byte(`{"version":1,"name":"/elsewhere"}`),
			8: []byte(`{"version":1,"name":"/root"}`),
			9: []byte(`what another version wrote`),
		}}
		r := watchtest.Start(t, "poll", t.TempDir(), func(c *watch.Config) { c.Past, c.ForgetOthers = past, tt.forget })
		r.Stop()
		if !slices.Equal(past.gone, tt.want) {
			t.Errorf("forgotten, asked to %v: %v, want %v", tt.forget, past.gone, tt.want)
		}
	}
}
