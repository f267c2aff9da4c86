package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

const (
	selfSignedFile  = "self-signed.pem" // certificate and key, in the state directory
	selfSignedCert  = "self-signed.crt" // the certificate alone, for clients
	selfSignedYears = 2
	selfSignedSpare = 30 * 24 * time.Hour // a new one is made so long before the old one ends
)

// ownCertificate is one of our own making, made anew when it is about to expire while it is served. get may be called from any goroutine.
type ownCertificate struct {
	issue func(now time.Time) (tls.Certificate, error)
	now   func() time.Time
	log   *slog.Logger

	mu    sync.Mutex
	cert  *tls.Certificate
	tried time.Time // when a new one could not be made
}

// renewRest is how long after a failure another certificate is tried to be made.
const renewRest = time.Hour

func newOwnCertificate(issue func(now time.Time) (tls.Certificate, error), now func() time.Time, log *slog.Logger) (*ownCertificate, error) {
	cert, err := issue(now())
	if err != nil {
		return nil, err
	}
	log.Info("self-signed certificate", "sha256", fingerprint(cert))
	return &ownCertificate{issue: issue, now: now, log: log, cert: &cert}, nil
}

func (o *ownCertificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.now()
	if lasts(o.cert.Leaf, now) || now.Sub(o.tried) < renewRest {
		return o.cert, nil
	}
	cert, err := o.issue(now)
	if err != nil {
		o.tried = now
		o.log.Warn("the self-signed certificate could not be made anew: it stays as it is", "ends", o.cert.Leaf.NotAfter, "err", err)
		return o.cert, nil
	}
	o.cert = &cert
	o.log.Info("self-signed certificate made anew: clients have to trust it again", "sha256", fingerprint(cert))
	return o.cert, nil
}

// selfSigned gives a certificate for this machine and the listening host. With a state directory it is kept there, so
// that who has trusted it need not do so again; it is made anew when it is about to expire or the host is another one.
func selfSigned(stateDir, host string, now time.Time) (tls.Certificate, error) {
	names := []string{"localhost"}
	if h, err := os.Hostname(); err == nil && h != "localhost" {
		names = append(names, h)
	}
	ips := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	if ip := net.ParseIP(host); ip != nil && !slices.ContainsFunc(ips, ip.Equal) {
		ips = append(ips, ip)
	} else if ip == nil && host != "" && !slices.Contains(names, host) {
		names = append(names, host)
	}
	path := ""
	if stateDir != "" {
		path = filepath.Join(stateDir, selfSignedFile)
		cert, err := tls.LoadX509KeyPair(path, path)
		if err == nil && serves(cert.Leaf, names, ips, now) {
			return cert, publish(stateDir, cert)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return cert, fmt.Errorf("%s is damaged, remove it: %w", path, err)
		}
	}
	text, err := makeSelfSigned(names, ips, now)
	if err != nil {
		return tls.Certificate{}, err
	}
	if path != "" {
		if err := os.MkdirAll(stateDir, 0o700); err != nil {
			return tls.Certificate{}, err
		}
		if err := os.WriteFile(path+".tmp", text, 0o600); err != nil {
			return tls.Certificate{}, err
		}
		if err := os.Rename(path+".tmp", path); err != nil {
			return tls.Certificate{}, err
		}
	}
	cert, err := tls.X509KeyPair(text, text)
	if err == nil && path != "" {
		err = publish(stateDir, cert)
	}
	return cert, err
}

// publish writes the certificate where clients can take it from.
func publish(stateDir string, cert tls.Certificate) error {
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})
	return os.WriteFile(filepath.Join(stateDir, selfSignedCert), text, 0o644)
}

// lasts says whether a certificate is good now, and for some time.
func lasts(c *x509.Certificate, now time.Time) bool {
	return !now.Before(c.NotBefore) && !now.Add(selfSignedSpare).After(c.NotAfter)
}

// serves says whether a certificate is good for all these names, and for some time.
func serves(c *x509.Certificate, names []string, ips []net.IP, now time.Time) bool {
	if !lasts(c, now) {
		return false
	}
	for _, n := range names {
		if c.VerifyHostname(n) != nil {
			return false
		}
	}
	for _, ip := range ips {
		if c.VerifyHostname(ip.String()) != nil {
			return false
		}
	}
	return true
}

// makeSelfSigned gives a certificate and its key as PEM.
func makeSelfSigned(names []string, ips []net.IP, now time.Time) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "fs_notify on " + names[len(names)-1]},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(selfSignedYears, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, DNSNames: names, IPAddresses: ips,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})...), nil
}

// fingerprint is what a user can compare.
func fingerprint(c tls.Certificate) string {
	sum := sha256.Sum256(c.Certificate[0])
	return hex.EncodeToString(sum[:])
}
