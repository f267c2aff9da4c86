package access

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// Secrets are compared in these forms:
//
//	sha256:HEX                                   of a token of our own making, which nobody can guess
//	$argon2id$v=19$m=KIB,t=N,p=N$SALT$HASH       of whatever somebody chose
//	$2y$COST$…                                   bcrypt, of passwords only, as htpasswd -B makes it

// What is taken for a new argon2id hash, and what a file may ask for at most: one check must not take the machine.
const (
	argonMemory  = 19 << 10 // KiB
	argonTime    = 2
	argonThreads = 1

	maxArgonMemory  = 256 << 10
	maxArgonTime    = 16
	maxArgonThreads = 8
)

const sha256Prefix = "sha256:"

// SHA256 gives the hash of a token that is long and random.
func SHA256(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return sha256Prefix + hex.EncodeToString(sum[:])
}

// Argon2id gives the hash of any secret, with a salt.
func Argon2id(secret string) string {
	salt := make([]byte, 16)
	rand.Read(salt)
	b64 := base64.RawStdEncoding
	sum := argon2.IDKey([]byte(secret), salt, argonTime, argonMemory, argonThreads, 32)
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", argonMemory, argonTime, argonThreads, b64.EncodeToString(salt), b64.EncodeToString(sum))
}

// argon is a parsed argon2id hash.
type argon struct {
	memory, time uint32
	threads      uint8
	salt, sum    []byte
}

func parseArgon(s string) (a argon, err error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != "v=19" {
		return a, errors.New("it is no argon2id hash of version 19")
	}
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &a.memory, &a.time, &a.threads); err != nil || n != 3 {
		return a, errors.New("its parameters should be m=N,t=N,p=N")
	}
	if a.memory < 8 || a.memory > maxArgonMemory || a.time < 1 || a.time > maxArgonTime || a.threads < 1 || a.threads > maxArgonThreads {
		return a, fmt.Errorf("its parameters go beyond m=%d,t=%d,p=%d", maxArgonMemory, maxArgonTime, maxArgonThreads)
	}
	if a.salt, err = base64.RawStdEncoding.DecodeString(parts[4]); err == nil {
		a.sum, err = base64.RawStdEncoding.DecodeString(parts[5])
	}
	if err != nil || len(a.salt) < 8 || len(a.sum) < 16 || len(a.sum) > 64 {
		return a, errors.New("its salt or hash cannot be read")
	}
	return a, nil
}

func (a *argon) matches(secret string) bool {
	sum := argon2.IDKey([]byte(secret), a.salt, a.time, a.memory, a.threads, uint32(len(a.sum)))
	return subtle.ConstantTimeCompare(sum, a.sum) == 1
}

// checkHash says what is wrong with the form of a hash.
func checkHash(s string, password bool) error {
	switch {
	case strings.HasPrefix(s, sha256Prefix) && !password:
		if b, err := hex.DecodeString(s[len(sha256Prefix):]); err != nil || len(b) != sha256.Size {
			return errors.New("behind sha256: should stand 64 hexadecimal digits")
		}
		return nil
	case strings.HasPrefix(s, "$argon2id$"):
		_, err := parseArgon(s)
		return err
	case strings.HasPrefix(s, "$2") && password:
		cost, err := bcrypt.Cost([]byte(s))
		if err == nil && cost > 16 {
			err = errors.New("its cost is above 16")
		}
		return err
	case password:
		return errors.New("it is neither bcrypt (htpasswd -B) nor argon2id")
	}
	return errors.New("it should begin with sha256: or $argon2id$")
}

// matches says whether a secret has a hash whose form was checked. For all but SHA-256 it takes a good part of a second's tenth.
func matches(hash, secret string) bool {
	switch {
	case strings.HasPrefix(hash, sha256Prefix):
		return subtle.ConstantTimeCompare([]byte(SHA256(secret)), []byte(strings.ToLower(hash))) == 1
	case strings.HasPrefix(hash, "$2"):
		return len(secret) <= 72 && bcrypt.CompareHashAndPassword([]byte(hash), []byte(secret)) == nil
	}
	a, err := parseArgon(hash)
	return err == nil && a.matches(secret)
}

// fingerprint stands for what a session depends on: it changes with any of the parts, and tells nothing of them.
func fingerprint(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// newSecret is 32 random bytes in text.
func newSecret() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}
