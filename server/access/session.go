package access

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"fs_notify/notify"
)

// sessionPrefix begins the token of a session: what it holds is in version 1 of its form.
const sessionPrefix = "session-v1:"

const (
	keyFile     = "session.key"     // 32 bytes, base64
	revokedFile = "session.revoked" // JSON: ID of a session that was ended before its time, and when it would have expired
)

// maxKey is more than the file of the key holds.
const maxKey = 1 << 10

// claim is what the token of a session says, signed.
type claim struct {
	ID      string `json:"i"`
	Subject string `json:"s"` // "user:joe" or "token:ingest"
	Print   string `json:"f"` // fingerprint of what the subject's hash and rights were
	Expires int64  `json:"x"` // seconds since 1970
}

// session is a claim that was presented.
type session struct {
	claim
	grant *notify.Grant
	end   context.CancelCauseFunc // ends the grant
}

// signer signs sessions and knows which were ended.
type signer struct {
	dir     string // "": a restart logs everybody out
	key     []byte
	revoked map[string]int64 // ID of a session to the second in which it expires; under the lock of the Access, as noted is
	noted   int              // how often a session was revoked

	saving  sync.Mutex // whoever writes the file; nothing else waits for the disk
	saved   int        // noted, as of what the file has
	replace func(name string, text []byte) error
}

func newSigner(dir string, log *slog.Logger) (*signer, error) {
	s := &signer{dir: dir, revoked: map[string]int64{}, replace: replaceFile}
	if dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		text, err := readKey(filepath.Join(dir, keyFile), log)
		if err == nil {
			s.key, err = base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
			if err == nil && len(s.key) != 32 {
				err = errors.New("it has not 32 bytes")
			}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("the key of sessions, %s, cannot be used: mend it, or remove it, which logs everybody out: %w", filepath.Join(dir, keyFile), err)
		}
	}
	if s.key == nil {
		s.key = make([]byte, 32)
		rand.Read(s.key)
		if dir != "" {
			if err := replaceFile(filepath.Join(dir, keyFile), []byte(base64.StdEncoding.EncodeToString(s.key)+"\n")); err != nil {
				return nil, err
			}
		}
		return s, nil
	}
	text, err := os.ReadFile(filepath.Join(dir, revokedFile))
	if err == nil {
		err = json.Unmarshal(text, &s.revoked)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is damaged: remove it together with %s, which logs everybody out: %w", filepath.Join(dir, revokedFile), keyFile, err)
	}
	return s, nil
}

// readKey reads the file of the key, if nobody else can have written it. Whoever can read it can log in as anybody.
func readKey(name string, log *slog.Logger) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	dir, err := os.Stat(filepath.Dir(name))
	if err != nil {
		return nil, err
	}
	if err := ownedHere(st, dir); err != nil && keepsModes(filepath.Dir(name)) {
		return nil, err
	}
	if hasModes && st.Mode().Perm()&0o077 != 0 {
		log.Warn("others than the server may read the key of sessions, and sign their own: chmod 600 it, or remove it, which logs everybody out", "file", name, "mode", st.Mode().String())
	}
	return io.ReadAll(io.LimitReader(f, maxKey))
}

// keepsModes says whether files in a directory have the modes that they are given: there are file systems that make them up.
func keepsModes(dir string) bool {
	f, err := os.CreateTemp(dir, "mode-") // 0600
	if err != nil {
		return true
	}
	defer os.Remove(f.Name())
	defer f.Close()
	st, err := f.Stat()
	return err != nil || st.Mode().Perm()&0o077 == 0
}

func (s *signer) mac(payload string) string {
	h := hmac.New(sha256.New, s.key)
	h.Write([]byte(sessionPrefix + payload))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// token gives a claim as its bearer shows it.
func (s *signer) token(c claim) string {
	b, err := json.Marshal(c)
	if err != nil {
		panic(err) // strings and a number
	}
	payload := base64.RawURLEncoding.EncodeToString(b)
	return sessionPrefix + payload + "." + s.mac(payload)
}

// read gives the claim of a token that we signed.
func (s *signer) read(token string) (c claim, ok bool) {
	payload, mac, ok := strings.Cut(strings.TrimPrefix(token, sessionPrefix), ".")
	if !ok || !hmac.Equal([]byte(mac), []byte(s.mac(payload))) {
		return c, false
	}
	b, err := base64.RawURLEncoding.DecodeString(payload)
	return c, err == nil && json.Unmarshal(b, &c) == nil
}

// revoke ends a session before its time: for good, once what it gives was saved. a.mu is held.
func (s *signer) revoke(c claim, now time.Time) (n int) {
	if _, over := s.revoked[c.ID]; over {
		return s.noted
	}
	for id, expires := range s.revoked {
		if expires < now.Unix() {
			delete(s.revoked, id)
		}
	}
	s.revoked[c.ID] = c.Expires
	s.noted++
	return s.noted
}

// save writes what was revoked, unless somebody did who came later than n. lock is that of revoked: it is not held while the disk works.
func (s *signer) save(n int, lock sync.Locker) error {
	if s.dir == "" {
		return nil
	}
	s.saving.Lock()
	defer s.saving.Unlock()
	if s.saved >= n {
		return nil
	}
	lock.Lock()
	revoked, noted := maps.Clone(s.revoked), s.noted
	lock.Unlock()
	text, err := json.Marshal(revoked)
	if err == nil {
		err = s.replace(filepath.Join(s.dir, revokedFile), append(text, '\n'))
	}
	if err == nil {
		s.saved = noted
	}
	return err
}
