package access

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Who has the key of sessions can log in as anybody: one that somebody else can have put there is refused, and one that others may read is a warning.
func TestKeyOfSessionsIsOurs(t *testing.T) {
	us := os.Geteuid()
	for _, tt := range []struct {
		what    string
		uid     int
		mode    os.FileMode
		refused string
		warned  bool
	}{
		{"as it is made", us, 0o600, "", false},
		{"read-only", us, 0o400, "", false},
		{"on a volume of the group that a container has", us, 0o660, "", true},
		{"readable by all", us, 0o644, "", true},
		{"writable by all", us, 0o666, "everybody may write it, its mode is 0666 and should be 0600 (chmod)", false},
		{"of somebody else", 1234, 0o600, fmt.Sprintf("it is of user 1234, and should be of %d, as its directory is", us), false},
	} {
		if tt.uid != us && us != 0 {
			continue // only root can make one
		}
		dir := t.TempDir()
		first, err := newSigner(dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, keyFile)
		if err := os.Chown(file, tt.uid, -1); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, tt.mode); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		second, err := newSigner(dir, slog.New(slog.NewJSONHandler(&log, nil)))
		switch {
		case tt.refused != "":
			if err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "remove it, which logs everybody out: "+tt.refused) {
				t.Errorf("%s: %v", tt.what, err)
			}
		case err != nil || !bytes.Equal(first.key, second.key):
			t.Errorf("%s: another key, %v", tt.what, err)
		}
		if warned := strings.Contains(log.String(), `"level":"WARN"`) && strings.Contains(log.String(), file) && strings.Contains(log.String(), `"mode":"-rw-`); warned != tt.warned {
			t.Errorf("%s: logged is %q", tt.what, &log)
		}
	}
}
