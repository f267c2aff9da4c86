package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"fs_notify/server"
	"fs_notify/server/access"
)

// accessFlags are those flags of fs_notify serve that say who may ask, and how much.
type accessFlags struct {
	tokens  string   // YAML file
	users   string   // htpasswd file
	hosts   []string // further names of this machine, where there are no tokens
	cors    []string // origins
	proxies []string // addresses or networks

	streams        int
	tokenStreams   int // < 0: not said
	addressStreams int // < 0: not said
	connectRate    int // < 0: not said
	replays        int
	header, body   size
	headerTimeout  duration
}

// What is allowed where somebody else than this machine may ask, unless flags say otherwise.
const (
	exposedStreams     = 5000 // with one token, or from one address
	exposedConnectRate = 500
)

func (o *accessFlags) add(f *pflag.FlagSet) {
	*o = accessFlags{streams: usualStreams, tokenStreams: -1, addressStreams: -1, connectRate: -1, replays: 4, header: 256 << 10, body: 2 << 20, headerTimeout: duration(10 * time.Second)}
	f.StringVar(&o.tokens, "tokens", "", "serve whoever has a token that this YAML `file` has the hash of: see \"fs_notify token --help\"")
	f.StringVar(&o.users, "users", "", "let users log in whose bcrypt or argon2id hashes are in this htpasswd `file`")
	f.StringArrayVar(&o.hosts, "allow-host", nil, "without tokens: also answer requests for this host `name`, besides localhost; may be repeated")
	f.StringArrayVar(&o.cors, "cors-origin", nil, "let pages of this `origin`, such as https://app.example, read answers; may be repeated; * for all, with tokens")
	f.StringArrayVar(&o.proxies, "trusted-proxies", nil, "believe X-Forwarded-For of proxies in this `network`, such as 10.0.0.0/8; may be repeated")
	f.IntVar(&o.streams, "max-streams", o.streams, "streams at once; more are told to come again (503)")
	f.IntVar(&o.tokenStreams, "max-streams-per-token", o.tokenStreams, "and with one token, or of one user (429); 0: no limit; -1: 5000 with tokens")
	f.IntVar(&o.addressStreams, "max-streams-per-address", o.addressStreams, "and from one address, or network of 64 bits of IPv6 (429); 0: no limit; -1: 5000 with tokens")
	f.IntVar(&o.connectRate, "connect-rate", o.connectRate, "connections that one address may open each second, and ten times as many at once (429); 0: no limit; -1: 500 with tokens")
	f.IntVar(&o.replays, "max-replays", o.replays, "streams that may read the past from disk at the same time; others wait")
	f.Var(&o.header, "max-header-bytes", "how large the head of a request may be (431)")
	f.Var(&o.headerTimeout, "header-timeout", "how long it may take to arrive; then the connection is closed")
	f.Var(&o.body, "max-body-bytes", "how large the body of a request may be (413)")
}

// guarded says whether there are tokens or users.
func (o *accessFlags) guarded() bool { return o.tokens != "" || o.users != "" }

// check finds what is wrong with the flags together. The address to listen at is host and port.
func (o *accessFlags) check(host, port string) error {
	if ip := net.ParseIP(host); !o.guarded() && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return misused("--listen %s would take requests from other machines, and nothing says who may ask: name them with --tokens FILE "+
			"(fs_notify token create makes one) or --users FILE, or listen at 127.0.0.1:%s, for this machine only", net.JoinHostPort(host, port), port)
	}
	for _, h := range o.hosts {
		if _, err := netip.ParseAddr(h); err != nil && (strings.Trim(h, ".") == "" || strings.ContainsAny(h, ":/[]*?@, \t")) {
			return misused("--allow-host %q: it should be a name alone, as it stands in URLs, such as files.example", h)
		}
	}
	for _, c := range o.cors {
		switch sent := originOf(c); {
		case c == "*" && !o.guarded():
			return misused("--cors-origin '*' without --tokens would let every page that somebody here looks at read everything: name the origins")
		case sent == "":
			return misused("--cors-origin %s: it should be an origin, such as https://app.example, without a path", c)
		}
	}
	if _, err := parseNetworks(o.proxies); err != nil {
		return err
	}
	switch {
	case o.streams < 1 || o.replays < 1:
		return misused("--max-streams and --max-replays should be 1 or more")
	case o.tokenStreams < -1 || o.addressStreams < -1 || o.connectRate < -1:
		return misused("--max-streams-per-token, --max-streams-per-address and --connect-rate should be 1 or more, 0 for no limit, or -1 for what is usual")
	case o.header < 4<<10 || o.header > 16<<20 || o.body < 1<<10 || o.body > 1<<30:
		return misused("--max-header-bytes should be 4KiB to 16MiB, --max-body-bytes 1KiB to 1GiB")
	case o.headerTimeout <= 0:
		return misused("--header-timeout should be more than 0")
	}
	return nil
}

// originOf gives an origin as browsers send it, in small letters and without the port that is usual; "" for what is none. * stays.
func originOf(s string) string {
	u, err := url.Parse(s)
	switch {
	case s == "*":
		return s
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || !strings.EqualFold(u.Scheme+"://"+u.Host, s):
		return ""
	}
	host := u.Host
	if port := u.Port(); port == "" || port == map[string]string{"http": "80", "https": "443"}[u.Scheme] {
		host = strings.TrimSuffix(host, ":"+port)
	}
	return u.Scheme + "://" + strings.ToLower(host)
}

func parseNetworks(args []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, arg := range args {
		p, err := netip.ParsePrefix(arg)
		if err != nil {
			var ip netip.Addr
			if ip, err = netip.ParseAddr(arg); err == nil {
				p, err = ip.Prefix(ip.BitLen())
			}
		}
		if err != nil {
			return nil, misused("--trusted-proxies %s: it should be an address or a network, such as 10.0.0.0/8", arg)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// usualStreams is --max-streams where nobody says otherwise.
const usualStreams = 20_000

// keptFiles is how many descriptors are not for streams: other requests are answered with half of them, the disk is looked at and the journal
// written with the other half.
const keptFiles = 256

// roomForStreams is how many streams a process may have that may have so many files open.
func roomForStreams(files uint64) int {
	return int(min(files-min(keptFiles, files/2), math.MaxInt32))
}

// roomForConns is how many connections a process may have that may have so many files open, and so many streams.
func roomForConns(files uint64, streams int) int {
	return int(min(files-min(keptFiles/2, files/4), uint64(streams)+server.OtherConns, math.MaxInt32))
}

// apply tells a server to be who may ask. run follows the files until ctx ends; reload reads them again at once.
func (o *accessFlags) apply(s *server.Options, stateDir string) (run func(context.Context) error, reload func() error, err error) {
	s.TrustedProxies, _ = parseNetworks(o.proxies) // was checked
	for _, c := range o.cors {
		s.CORSOrigins = append(s.CORSOrigins, originOf(c))
	}
	s.MaxStreams, s.Pagers, s.MaxHeaderBytes, s.MaxBodyBytes, s.ReadHeaderTimeout = o.streams, o.replays, int(o.header), int(o.body), time.Duration(o.headerTimeout)
	s.MaxTokenStreams, s.MaxAddressStreams, s.ConnectRate = max(o.tokenStreams, 0), max(o.addressStreams, 0), max(o.connectRate, 0)
	if room := roomForStreams(maxFiles()); s.MaxStreams > room {
		level := slog.LevelWarn
		if s.MaxStreams == usualStreams { // nobody has asked for them
			level = slog.LevelInfo
		}
		s.Log.Log(context.Background(), level, "not so many streams as --max-streams: the process may not have more files open (RLIMIT_NOFILE, LimitNOFILE= of systemd)", "max-streams", s.MaxStreams, "streams", room)
		s.MaxStreams = room
	}
	s.MaxConns = roomForConns(maxFiles(), s.MaxStreams)
	s.Guarded, s.Open = map[string]access.Handler{}, map[string]access.Handler{}
	if !o.guarded() {
		s.Auth = thisMachine(o.hosts)
		s.Guarded["/v1/session/who-am-i"] = access.WhoAmI
		s.Guarded["/login"] = access.NoDoor
		idle := func(ctx context.Context) error { <-ctx.Done(); return nil }
		return idle, func() error { return nil }, nil
	}
	a, err := access.New(access.Options{Tokens: o.tokens, Users: o.users, StateDir: stateDir, Log: s.Log})
	var file *access.FileError
	if errors.As(err, &file) {
		return nil, nil, fmt.Errorf("--%s: %w", file.Which, file.Err)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("who may ask cannot be found out: %w", err)
	}
	s.Auth, s.Guarded, s.Open = a, a.Routes(), a.Open()
	if o.tokenStreams < 0 {
		s.MaxTokenStreams = exposedStreams
	}
	if o.addressStreams < 0 {
		s.MaxAddressStreams = exposedStreams
	}
	if o.connectRate < 0 {
		s.ConnectRate = exposedConnectRate
	}
	return a.Run, a.Reload, nil
}

// thisMachine lets processes of this machine ask, as far as they may see what this one does.
func thisMachine(hosts []string) access.Local {
	local := access.Local{Hosts: hosts}
	if seesMoreThanOthers() {
		local.Owners = []uint32{uint32(os.Geteuid())}
	}
	return local
}

// administrators lets root and the user of this process ask, where it can be found out who asks.
func administrators() access.Local {
	local := thisMachine(nil)
	if runtime.GOOS == "linux" {
		local.Owners = []uint32{uint32(os.Geteuid())}
	}
	return local
}

// seesMoreThanOthers says whether this process sees files that other users may not: as root, or with a capability for it.
func seesMoreThanOthers() bool {
	if os.Geteuid() == 0 {
		return true
	}
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	const overrides = 1<<1 | 1<<2 // CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
	for line := range strings.Lines(string(text)) {
		var caps uint64
		if n, _ := fmt.Sscanf(line, "CapEff: %x", &caps); n == 1 {
			return caps&overrides != 0
		}
	}
	return false
}

// certificate is a certificate in two files, read again when they change.
type certificate struct {
	cert, key string
	log       *slog.Logger

	mu     sync.Mutex
	now    *tls.Certificate
	stamps [2]string
	told   [2]string // those of files that could not be used, which the log has
	looked time.Time
}

// recheck is how often the files are looked at, while connections come.
const recheck = time.Second

// newCertificate reads the files.
func newCertificate(cert, key string, log *slog.Logger) (*certificate, error) {
	c := &certificate{cert: cert, key: key, log: log}
	c.stamps = c.stamp()
	pair, err := tls.LoadX509KeyPair(cert, key)
	c.now = &pair
	return c, err
}

func (c *certificate) stamp() (out [2]string) {
	for i, name := range []string{c.cert, c.key} {
		if st, err := os.Stat(name); err == nil {
			out[i] = fmt.Sprint(st.Size(), st.ModTime().UnixNano())
		}
	}
	return out
}

// get is for tls.Config. Files that do not fit together, as in the middle of a renewal, change nothing.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < recheck {
		return c.now, nil
	}
	c.looked = time.Now()
	if s := c.stamp(); s != c.stamps {
		pair, err := tls.LoadX509KeyPair(c.cert, c.key)
		if err != nil {
			if s != c.told {
				c.told = s
				c.log.Warn("the TLS certificate stays as it was: its files cannot be used", "err", err)
			}
			return c.now, nil
		}
		c.now, c.stamps = &pair, s
		c.log.Info("the TLS certificate was read again", "sha256", fingerprint(pair))
	}
	return c.now, nil
}

// errNotLoggedIn is what commands say that need a session.
var errNotLoggedIn = errors.New("the server wants to know who you are: log in (fs_notify login --host H -u USER), or show a token (--token-file, FS_NOTIFY_TOKEN)")
