package journal

import (
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"fs_notify/notify"
)

// The example in docs/journal-format.md is what is written.
func TestFormatExample(t *testing.T) {
	r := new(rowEncoder).encode(1000, 900, 0, 1, []notify.Notification{{Type: notify.ChildFileAdded, Path: "a", Spine: notify.Spine{1, 2},
		Attr: notify.Attr{Mode: notify.ModeFile | 0o644, Nlink: 1}}})
	doc, err := os.ReadFile("../../docs/journal-format.md")
	if err != nil {
		t.Fatal(err)
	}
	var example string
	_, rest, _ := strings.Cut(string(doc), "\n### Example\n")
	for line := range strings.Lines(rest) {
		if code, ok := strings.CutPrefix(line, "    "); ok {
			code, _, _ = strings.Cut(code, "  ")
			example += strings.ReplaceAll(strings.TrimSpace(code), " ", "")
		} else if strings.HasPrefix(line, "##") {
			break
		}
	}
	if got := hex.EncodeToString(r.body); got != example {
		t.Errorf("what is written:\n%s\nin docs/journal-format.md:\n%s", got, example)
	}
}
