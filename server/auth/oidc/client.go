package oidc

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berth-registry/berth/server/auth"
)

const (
	maxAnswer = 1 << 20          // bytes of an answer
	maxTime   = 10 * time.Second // of a request
	// rest is how long a fetched document stands for the next request: a stranger's tokens with unknown key ids must not
	// make us a stream of requests to the provider.
	rest = 5 * time.Second
)

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// guard is the only way to the provider.
type guard struct {
	base   http.RoundTripper
	scheme string
	hosts  []string // with port when it is not the scheme's own
	now    func() time.Time

	mu     sync.Mutex
	recent map[string]document
}

type document struct {
	status int
	header http.Header
	body   []byte
	at     time.Time
}

func newClient(issuer *url.URL, o Options) (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		text, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("authorities of the provider: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("authorities of the provider: %s holds no PEM certificate", o.CAFile)
		}
	}
	g := &guard{
		scheme: issuer.Scheme, hosts: append([]string{issuer.Host}, o.Hosts...), now: o.Now, recent: map[string]document{},
		base: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, ForceAttemptHTTP2: true,
			DialContext:         (&net.Dialer{Timeout: maxTime}).DialContext,
			MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: maxTime, MaxResponseHeaderBytes: 64 << 10,
		},
	}
	return &http.Client{Transport: g, Timeout: maxTime, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		return fmt.Errorf("the provider redirects to %s; redirects are not followed", r.URL.Host)
	}}, nil
}

// RoundTrip refuses requests to hosts that were not named, and bounds answers.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != g.scheme || !slices.ContainsFunc(g.hosts, func(h string) bool { return strings.EqualFold(h, r.URL.Host) }) {
		return nil, fmt.Errorf("the provider names the address %s://%s, which is not on its issuer's host; if that is right, add it to hosts in the configuration", r.URL.Scheme, r.URL.Host)
	}
	document := r.Method == http.MethodGet && r.Header.Get("Authorization") == ""
	if document {
		if d, ok := g.remembered(r.URL.String()); ok {
			return d.response(r), nil
		}
	}
	resp, err := g.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	_ = resp.Body.Close()
	if err != nil {
		return nil, err
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("the provider's answer has more than %d bytes", maxAnswer)
	}
	d := documentOf(resp, body, g.now())
	if document && resp.StatusCode == http.StatusOK {
		g.remember(r.URL.String(), d)
	}
	return d.response(r), nil
}

func documentOf(resp *http.Response, body []byte, at time.Time) document {
	return document{status: resp.StatusCode, header: resp.Header, body: body, at: at}
}

func (d document) response(r *http.Request) *http.Response {
	return &http.Response{
		Status: fmt.Sprintf("%d %s", d.status, http.StatusText(d.status)), StatusCode: d.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: d.header.Clone(), Body: io.NopCloser(bytes.NewReader(d.body)), ContentLength: int64(len(d.body)), Request: r,
	}
}

func (g *guard) remembered(address string) (document, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	d, ok := g.recent[address]
	age := g.now().Sub(d.at)
	return d, ok && age >= 0 && age < rest
}

// remember holds a handful: the addresses are the provider's own documents.
func (g *guard) remember(address string, d document) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.recent) >= 16 {
		clear(g.recent)
	}
	g.recent[address] = d
}

// answer is what a token endpoint says (RFC 6749 sections 5.1 and 5.2, RFC 8628 section 3.2).
type answer struct {
	AccessToken string `json:"access_token"`
	IDToken     string `json:"id_token"`

	DeviceCode string  `json:"device_code"`
	UserCode   string  `json:"user_code"`
	URL        string  `json:"verification_uri"`
	Complete   string  `json:"verification_uri_complete"`
	ExpiresIn  float64 `json:"expires_in"`
	Interval   float64 `json:"interval"`

	Error       string `json:"error"`
	Description string `json:"error_description"`
}

// post sends a form as the client that we are. The error says what the provider answered, and never what was sent.
func (p *Provider) post(ctx context.Context, address string, form url.Values) (*answer, error) {
	form.Set("client_id", p.o.ClientID)
	if p.o.ClientSecret != "" && p.o.SecretInForm {
		form.Set("client_secret", p.o.ClientSecret)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "application/json")
	if p.o.ClientSecret != "" && !p.o.SecretInForm { // RFC 6749 section 2.3.1: both are encoded as in a form
		r.SetBasicAuth(url.QueryEscape(p.o.ClientID), url.QueryEscape(p.o.ClientSecret))
	}
	resp, err := p.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var a answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return nil, fmt.Errorf("%s: answer %d is no JSON: %w", r.URL.Path, resp.StatusCode, err)
	}
	if resp.StatusCode != http.StatusOK || a.Error != "" {
		return nil, refusal(resp.StatusCode, a)
	}
	return &a, nil
}

// refusal tells the provider's no to this login from what keeps all logins from working.
func refusal(status int, a answer) error {
	err := fmt.Errorf("the provider answers %d %.100q: %.500q", status, a.Error, a.Description)
	switch a.Error {
	case "authorization_pending":
		return auth.ErrPending
	case "slow_down":
		return auth.ErrSlowDown
	case "expired_token":
		return auth.ErrExpired
	case "invalid_grant", "access_denied", "invalid_request":
		return errors.Join(auth.ErrRefused, err)
	}
	return err
}
