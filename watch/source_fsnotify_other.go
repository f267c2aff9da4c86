//go:build !linux

package watch

import "path/filepath"

// fsnPlaces gives directories their own paths: what is renamed is lost and found again by the
// tree's next listing.
type fsnPlaces struct{}

func (*fsnPlaces) open() error                   { return nil }
func (*fsnPlaces) close() error                  { return nil }
func (*fsnPlaces) own() []string                 { return nil }
func (*fsnPlaces) identify(Place) (fsnID, error) { return fsnID{}, nil }

// name gives the path as fsnotify will spell it in front of the names of its events.
func (*fsnPlaces) name(at Place) (string, func(), error) {
	return filepath.Clean(at.Path), func() {}, nil
}

func fsnBenign(error) bool { return false }
