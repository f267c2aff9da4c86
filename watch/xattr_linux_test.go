package watch

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// What would be too much is named and not given, and the others are.
func TestUserXattrsHaveALimit(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/f", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"user.big": "0123456789", "user.small": "01", "user.name-too-long": ""} {
		if err := unix.Setxattr(dir+"/f", name, []byte(value), 0); err != nil {
			t.Skip(name, err)
		}
	}
	fd, err := openRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(fd)
	got, err := new(looker).userXattrs(fd, "f", 12)
	if err != nil || fmt.Sprintf("%q", got) != `map["big":"" "small":"01"]` || got["big"] != nil {
		t.Errorf("%q, %v", got, err)
	}
}
