package watch

import (
	"encoding/binary"
	"testing"
	"time"

	"fs_notify/notify"
)

// Which attribute is told as what.
func TestXattrsAreSorted(t *testing.T) {
	type group struct{ acl, dos, streams, other bool }
	for _, tt := range []struct {
		name string
		want group
	}{
		{"system.posix_acl_access", group{acl: true}},
		{"system.posix_acl_default", group{acl: true}},
		{"system.nfs4_acl", group{acl: true}},
		{"system.nfs4_dacl", group{acl: true}},
		{"system.nfs4_sacl", group{acl: true}},
		{"security.NTACL", group{acl: true}},
		{"user.DOSATTRIB", group{dos: true}},
		{"user.DosStream.zone:$DATA", group{streams: true}},
		{"user.DosStream.", group{other: true}}, // has no name
		{"user.mime_type", group{other: true}},
		{"security.capability", group{other: true}},
		{"trusted.x", group{other: true}},
	} {
		var x notify.Xattrs
		addXattr(&x, tt.name, []byte("value"))
		if got := (group{x.ACL != 0, x.DOS != 0, len(x.Streams) > 0, x.Other != 0}); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// dosattrib makes what Samba writes in one of its versions: its attributes as text, the version twice, then the body.
func dosattrib(version uint16, valid, attrib uint32, created time.Time) []byte {
	b := []byte("0x22\x00\x00")
	le := binary.LittleEndian
	b = le.AppendUint16(b, version)
	b = le.AppendUint16(b, version)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	b = le.AppendUint32(b, valid)
	b = le.AppendUint32(b, attrib)
	switch version {
	case 3:
		b = append(b, make([]byte, 4+8+8)...) // size of attributes, size, allocation
	case 4:
		b = append(b, make([]byte, 8)...) // itime
	}
	b = le.AppendUint64(b, uint64(created.UnixNano()/100+116444736000000000))
	if version == 3 {
		b = append(b, make([]byte, 8)...) // change time
	}
	return b
}

// The creation time is told apart from the attributes, in every version.
func TestDOSATTRIB(t *testing.T) {
	then := time.Date(2021, 3, 4, 5, 6, 7, 800, time.UTC)
	for _, version := range []uint16{3, 4, 5} {
		attrs, btime := splitDOSATTRIB(dosattrib(version, 0x11, 0x22, then))
		if string(attrs) != "\x22\x00\x00\x00" || btime != then.UnixNano() {
			t.Errorf("version %d: got % x, %v", version, attrs, time.Unix(0, btime).UTC())
		}
		if _, btime := splitDOSATTRIB(dosattrib(version, 0x01, 0x22, then)); btime != 0 {
			t.Errorf("version %d: a creation time that is not valid is %d", version, btime)
		}
	}
	if attrs, btime := splitDOSATTRIB([]byte("0x22")); string(attrs) != "0x22" || btime != 0 {
		t.Errorf("the first version: got %q, %d", attrs, btime)
	}
}

func FuzzDOSATTRIB(f *testing.F) { // anybody who may write to a file may put anything there
	for _, version := range []uint16{1, 3, 4, 5, 6} {
		f.Add(dosattrib(version, 0x11, 0x22, time.Unix(1, 0)))
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		if attrs, btime := splitDOSATTRIB(v); btime == 0 && len(attrs) != len(v) && len(attrs) != 4 {
			t.Errorf("% x gave % x", v, attrs)
		}
	})
}
