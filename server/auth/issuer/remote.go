package issuer

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

// Limits of what an issuer is asked.
const (
	maxAnswer = 1 << 20          // bytes
	fetchTime = 10 * time.Second // of one request
	freshFor  = 10 * time.Minute // a key set is not asked for again
	staleFor  = 2 * time.Hour    // a key set is used while the issuer does not answer
	missEvery = 10 * time.Second // at most, for a key id that is not known
	failEvery = 2 * time.Second  // at most, for an issuer that does not answer
)

// RemoteOptions say where an issuer publishes its keys.
type RemoteOptions struct {
	Issuer string // its address; discovery is below it
	// KeySet is the address of the key set, for an issuer without discovery or whose keys are at another host. "" is what
	// discovery says, which must be at the issuer's own host.
	KeySet string
	CA     []byte // authorities of its certificate, PEM; nil for the machine's
	Bearer string // a file whose content is sent as a bearer token, as the API server of Kubernetes may want it; "" for none
	Now    func() time.Time
}

// Remote is the key set that an issuer publishes. It is read when it is first needed, kept for ten minutes, and asked for
// again when a token names a key that it does not have, at most every ten seconds. Redirects are not followed.
//
// Spec: OpenID Connect Discovery 1.0 section 4.
type Remote struct {
	o      RemoteOptions
	client *http.Client

	fetching sync.Mutex // one caller asks, the others wait
	mu       sync.RWMutex
	keys     *Static
	got      time.Time // when keys was had
	tried    time.Time // when it was last asked for
	failed   error     // why it could not be had then
}

// ErrAuthorities says that RemoteOptions.CA has no certificate.
var ErrAuthorities = errors.New("its authorities have no certificate in PEM form")

// NewRemote checks the addresses. Nothing is asked yet.
func NewRemote(o RemoteOptions) (*Remote, error) {
	for _, address := range []string{o.Issuer, o.KeySet} {
		if address == "" {
			continue
		}
		if err := secure(address); err != nil && (address == o.KeySet || o.KeySet == "") {
			return nil, err
		}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // net/http says what it is
	transport.MaxResponseHeaderBytes = 64 << 10
	if o.CA != nil {
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(o.CA) {
			return nil, fmt.Errorf("issuer %s: %w", o.Issuer, ErrAuthorities)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Remote{o: o, client: &http.Client{
		Transport: transport, Timeout: fetchTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// secure accepts https addresses, and http ones of this machine.
func secure(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.RawQuery != "" {
		return fmt.Errorf("address %q of an issuer is not one such as https://issuer.example.com", address)
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme != "https" && (u.Scheme != "http" || u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback())) {
		return fmt.Errorf("address %q of an issuer is not https; whoever is on the way could answer with keys of their own", address)
	}
	return nil
}

func (r *Remote) find(ctx context.Context, id string, header map[string]any) ([]key, error) {
	if _, ok := header["x5c"]; ok {
		header = nil // GitHub and others send it along; it is not looked at
	}
	set, err := r.current(ctx, "")
	if err != nil {
		return nil, err
	}
	found, err := set.find(ctx, id, header)
	if !errors.Is(err, errNoKey) {
		return found, err
	}
	if set, err = r.current(ctx, id); err != nil {
		return nil, err
	}
	return set.find(ctx, id, header)
}

// current gives the key set, a new one when what is known is old or does not have the wanted key.
func (r *Remote) current(ctx context.Context, wanted string) (*Static, error) {
	if set, ok := r.known(wanted); ok {
		return set, nil
	}
	r.fetching.Lock()
	defer r.fetching.Unlock()
	if set, ok := r.known(wanted); ok {
		return set, nil
	}
	now := r.o.Now()
	if r.failed != nil && now.Sub(r.tried).Abs() < failEvery {
		return nil, r.failed
	}
	set, err := r.fetch(context.WithoutCancel(ctx)) // others wait for it
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tried, r.failed = now, err
	if err == nil {
		r.keys, r.got = set, now
		return set, nil
	}
	if r.keys != nil && now.Sub(r.got).Abs() < staleFor {
		return r.keys, nil
	}
	return nil, err
}

// known is the key set when it need not be asked for: it is fresh and has the wanted key, or it was asked for a moment ago.
func (r *Remote) known(wanted string) (*Static, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.keys == nil {
		return nil, false
	}
	now := r.o.Now()
	if now.Sub(r.tried).Abs() < missEvery {
		return r.keys, true
	}
	if now.Sub(r.got).Abs() >= freshFor {
		return nil, false
	}
	if wanted == "" {
		return r.keys, true
	}
	_, err := choose(r.keys.keys, wanted)
	return r.keys, err == nil
}

// fetch asks for the key set, after discovery unless its address is configured.
func (r *Remote) fetch(ctx context.Context) (*Static, error) {
	address := r.o.KeySet
	if address == "" {
		var doc struct {
			Issuer  string `json:"issuer"`
			KeySets string `json:"jwks_uri"`
		}
		text, err := r.get(ctx, strings.TrimSuffix(r.o.Issuer, "/")+"/.well-known/openid-configuration")
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(text, &doc); err != nil {
			return nil, fmt.Errorf("discovery document of %s: %w", r.o.Issuer, err)
		}
		if doc.Issuer != r.o.Issuer {
			return nil, fmt.Errorf("discovery document of %s says that it is of %.200q", r.o.Issuer, doc.Issuer)
		}
		if err := sameHost(r.o.Issuer, doc.KeySets); err != nil {
			return nil, err
		}
		address = doc.KeySets
	}
	text, err := r.get(ctx, address)
	if err != nil {
		return nil, err
	}
	return ParseKeySet(text)
}

// sameHost keeps discovery at the issuer's host, so that whoever can write one document there cannot name keys elsewhere.
func sameHost(issuer, address string) error {
	if err := secure(address); err != nil {
		return err
	}
	a, err1 := url.Parse(issuer)
	b, err2 := url.Parse(address)
	if err := cmp.Or(err1, err2); err != nil {
		return err
	}
	if a.Scheme != b.Scheme || a.Host != b.Host {
		return fmt.Errorf("issuer %s has its keys at another host, %s; name the address of the key set in its configuration if that is right", issuer, b.Host)
	}
	return nil
}

func (r *Remote) get(ctx context.Context, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	if r.o.Bearer != "" {
		token, err := os.ReadFile(r.o.Bearer)
		if err != nil {
			return nil, fmt.Errorf("token for issuer %s: %w", r.o.Issuer, err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	answer, err := r.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s; redirects are not followed", address, answer.Status)
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxAnswer {
		return nil, fmt.Errorf("%s answers with more than %d bytes", address, maxAnswer)
	}
	return text, nil
}
