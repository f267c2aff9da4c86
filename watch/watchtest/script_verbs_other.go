//go:build !linux

package watchtest

// Verb does nothing: there are no verbs here.
func Verb() {}

// Verbs makes no commands.
func Verbs(dir string) error { return nil }
