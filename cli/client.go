package cli

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/pkg/tlsclientconfig"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/cli/option"
	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/remote"
)

// client makes a client of the distribution API out of the settings of one side: its credentials, certificates and
// registries.conf are those that the other transports use. Every request is tried again as retry says. show is told of pauses
// and retries; nil is nobody.
func (a *app) client(sys *types.SystemContext, retry option.Retry, show func(string)) *remote.Client {
	c, _ := a.registries(sys, "", retry, show)
	return c
}

// registries is client for a command that may name images of several registries, with how they are reached. home is the host
// that --creds and --registry-token are for; "" is every host.
func (a *app) registries(sys *types.SystemContext, home string, retry option.Retry, show func(string)) (*remote.Client, *reach) {
	c := &reach{sys: sys, home: home, t: a.t, now: a.now, transports: map[string]http.RoundTripper{}}
	if a.global.Debug {
		requests := &atomic.Int64{}
		c.trace = func(t http.RoundTripper) http.RoundTripper {
			return &traced{RoundTripper: t, w: a.Err, now: a.now, request: requests}
		}
	}
	o := remote.Options{
		Delay:    retry.Delay,
		Endpoint: c.endpoint, Credentials: c.credentials, Agent: sys.DockerRegistryUserAgent, Uploads: newUploads(),
		Notice: func(n remote.Notice) {
			if show != nil && (n.Kind == "pause" || n.Kind == "limit" || a.global.Debug) {
				show(a.lang.Say(n.Host + ": " + n.Text))
			}
		},
	}
	if times, given := a.global.Retries(retry); given {
		o.Tries, o.Backoff = max(times, 0)+1, time.Second
	}
	return remote.New(o), c
}

// reach says how hosts are reached. Safe for concurrent use.
type reach struct {
	sys  *types.SystemContext
	home string // the host that credentials of the command line are for; "" is every host
	t    option.Text
	now  func() time.Time

	trace func(http.RoundTripper) http.RoundTripper // what looks on; nil is nobody

	mu         sync.Mutex
	transports map[string]http.RoundTripper
	asking     sync.Mutex
	logins     map[string]login // by host and repository
}

// endpoint is https with the certificates for the host; without verification, and with http where there is no https, when a
// flag or registries.conf says so.
func (r *reach) endpoint(host string) remote.Endpoint {
	insecure := r.sys.DockerInsecureSkipTLSVerify == types.OptionalBoolTrue
	if r.sys.DockerInsecureSkipTLSVerify == types.OptionalBoolUndefined {
		if reg, err := sysregistriesv2.FindRegistry(r.sys, host); err == nil && reg != nil {
			insecure = reg.Insecure
		} else if err == nil {
			insecure = r.insecurePlace(host)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.transports[host]
	if t == nil {
		conf := &tls.Config{}
		if r.sys.BaseTLSConfig != nil {
			conf = r.sys.BaseTLSConfig.Clone()
		}
		conf.InsecureSkipVerify = insecure
		var err error
		for _, dir := range r.certDirs(host) {
			if err = tlsclientconfig.SetupCertificates(dir, conf); err != nil {
				break
			}
		}
		t = remote.NewTransport(conf)
		if r.trace != nil {
			t = r.trace(t)
		}
		if err != nil {
			t = refusing{fault.New(fault.Invalid, remote.ReasonTLS, "the certificates for %s cannot be used", host).Because(err)}
		}
		r.transports[host] = t
	}
	return remote.Endpoint{Fallback: insecure, Transport: t}
}

// insecurePlace reports whether registries.conf names a host as a mirror or as the location of a registry, and as insecure there.
func (r *reach) insecurePlace(host string) bool {
	all, err := sysregistriesv2.GetRegistries(r.sys)
	if err != nil {
		return false
	}
	at := func(e sysregistriesv2.Endpoint) bool {
		name, _, _ := strings.Cut(e.Location, "/")
		return e.Insecure && name == host
	}
	for _, reg := range all {
		if at(reg.Endpoint) || slices.ContainsFunc(reg.Mirrors, at) {
			return true
		}
	}
	return false
}

// refusing is the transport to a host whose certificates are wrong.
type refusing struct{ err error }

func (t refusing) RoundTrip(*http.Request) (*http.Response, error) { return nil, t.err }

// certDirs are where certificates for a host are: what a flag names, else the first of the usual places.
func (r *reach) certDirs(host string) []string {
	if r.sys.DockerCertPath != "" {
		return []string{r.sys.DockerCertPath}
	}
	places := []string{"/etc/containers/certs.d", "/etc/docker/certs.d"}
	if home, err := os.UserConfigDir(); err == nil {
		places = append([]string{filepath.Join(home, "containers", "certs.d")}, places...)
	}
	if r.sys.DockerPerHostCertDirPath != "" {
		places = []string{r.sys.DockerPerHostCertDirPath}
	}
	for _, p := range places {
		dir := filepath.Join(p, host)
		if _, err := os.Stat(dir); err == nil {
			return []string{dir}
		}
	}
	return nil
}

// plainRegistry reports whether a repository is read where its name says: registries.conf has no mirror and no other place for
// it. One that is blocked is an error.
func plainRegistry(sys *types.SystemContext, named reference.Named) (bool, error) {
	reg, err := sysregistriesv2.FindRegistry(sys, named.Name())
	if err != nil || reg == nil {
		return err == nil, err
	}
	if reg.Blocked {
		return false, fault.New(fault.Denied, fault.DeniedReason, "registry %s is blocked by registries.conf", reg.Prefix)
	}
	return len(reg.Mirrors) == 0 && (reg.Location == "" || reg.Location == reg.Prefix), nil
}

// uploads remembers interrupted uploads in the user's state directory, a file each. What cannot be kept is not: it costs bytes.
type uploads struct{ dir string }

// newUploads finds the directory; nil when there is no place for one.
func newUploads() remote.Uploads {
	dir, err := stateDir()
	if err != nil {
		return nil
	}
	u := uploads{filepath.Join(dir, "uploads")}
	u.prune(time.Now())
	return u
}

// stateDir is where the tool keeps what it remembers between runs.
func stateDir() (string, error) {
	dir := os.Getenv("XDG_STATE_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(dir, "berth"), nil
}

// uploadAge is how long an interrupted upload is remembered: registries forget theirs after a week (distribution, berthd) or
// sooner.
const uploadAge = 7 * 24 * time.Hour

// prune forgets uploads that no registry still has. Most runs find no folder, or a few files.
func (u uploads) prune(now time.Time) {
	entries, err := os.ReadDir(u.dir)
	if err != nil {
		return // see the type
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && now.Sub(info.ModTime()) > uploadAge {
			_ = os.Remove(filepath.Join(u.dir, e.Name())) // see the type
		}
	}
}

func (u uploads) file(key string) string {
	return filepath.Join(u.dir, strings.NewReplacer("/", "_", ":", "_").Replace(key))
}

// Load reads where an upload was.
func (u uploads) Load(key string) (string, bool) {
	b, err := os.ReadFile(u.file(key))
	return string(b), err == nil
}

// Save notes where an upload is. The address may be a secret.
func (u uploads) Save(key, location string) {
	if err := os.MkdirAll(u.dir, 0o700); err == nil {
		_ = os.WriteFile(u.file(key), []byte(location), 0o600) // see the type
	}
}

// Drop forgets an upload.
func (u uploads) Drop(key string) {
	if err := os.Remove(u.file(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return // see the type
	}
}

func sized(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
