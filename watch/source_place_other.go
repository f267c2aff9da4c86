//go:build !linux

package watch

func srcNotifies(Place) error { return nil }

func srcLimit(err error) error { return err }
