package spiffe_test

import (
	"context"
	"crypto/x509"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/auth/spiffe"
)

const builder = "spiffe://example.org/ns/ci/sa/builder"

func options() spiffe.Options {
	return spiffe.Options{Name: "mesh", Audience: "berth", Rules: []spiffe.Rule{
		{ID: "spiffe://example.org/ns/*/sa/builder", Robot: "builder"},
		{ID: "spiffe://example.org/ns/dev/**", Account: "dev", Groups: []string{"devs"}},
	}}
}

// open makes a provider that hears of the agent.
func open(t *testing.T, o spiffe.Options) *spiffe.Provider {
	t.Helper()
	p, err := spiffe.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.First(t.Context(), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = p.Close()
	})
	return p
}

func bundle(t *testing.T, a *testkit.SPIFFEAgent) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bundle.pem")
	if err := os.WriteFile(file, a.Bundle(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func identify(t *testing.T, p *spiffe.Provider, a *testkit.SPIFFEAgent, id string, change func(*x509.Certificate)) (auth.External, error) {
	t.Helper()
	return p.Identify(t.Context(), []*x509.Certificate{a.Issue(t, id, change).Leaf})
}

func TestIdentify(t *testing.T) {
	a, stranger := testkit.StartSPIFFE(t), testkit.StartSPIFFE(t)
	byAgent, byFile := options(), options()
	byAgent.WorkloadAPI = a.Addr
	byFile.Bundles = []spiffe.Bundle{{TrustDomain: "example.org", File: bundle(t, a)}}
	for how, o := range map[string]spiffe.Options{"agent": byAgent, "file": byFile} {
		p := open(t, o)
		if e, err := identify(t, p, a, builder, nil); err != nil || e.Robot != "builder" || e.Subject != builder || e.Provider != "mesh" || e.ExpiresAt.IsZero() {
			t.Errorf("%s: robot: %+v, %v", how, e, err)
		}
		if e, err := identify(t, p, a, "spiffe://example.org/ns/dev/sa/a/b", nil); err != nil || e.Name != "dev" || e.Subject != "account:dev" || !slices.Equal(e.Groups, []string{"devs"}) {
			t.Errorf("%s: account: %+v, %v", how, e, err)
		}
		old := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }
		for name, c := range map[string]struct {
			by     *testkit.SPIFFEAgent
			id     string
			change func(*x509.Certificate)
			want   error
		}{
			"no rule":                {a, "spiffe://example.org/ns/ci/sa/other", nil, auth.ErrNoAccount},
			"longer path":            {a, builder + "/x", nil, auth.ErrNoAccount},
			"shorter path":           {a, "spiffe://example.org/ns/ci/sa", nil, auth.ErrNoAccount},
			"another trust domain":   {a, "spiffe://example.com/ns/ci/sa/builder", nil, auth.ErrNoAccount},
			"no SPIFFE ID":           {a, "https://example.org/ns/ci/sa/builder", nil, auth.ErrNoAccount},
			"of a stranger":          {stranger, builder, nil, auth.ErrRefused},
			"expired":                {a, builder, old, auth.ErrRefused},
			"a trust domain alone":   {a, "spiffe://example.org", nil, auth.ErrNoAccount},
			"an authority":           {a, builder, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }, auth.ErrRefused},
			"may sign certificates":  {a, builder, func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, auth.ErrRefused},
			"for servers alone":      {a, builder, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, auth.ErrRefused},
			"two names":              {a, builder, func(c *x509.Certificate) { c.URIs = append(c.URIs, c.URIs[0]) }, auth.ErrRefused},
			"name with dots in path": {a, "spiffe://example.org/ns/dev/../ci/sa/builder", nil, auth.ErrRefused},
			"name with a port": {a, builder, func(c *x509.Certificate) {
				c.URIs = []*url.URL{{Scheme: "spiffe", Host: "example.org:1", Path: "/ns/ci/sa/builder"}}
			}, auth.ErrRefused},
		} {
			if e, err := identify(t, p, c.by, c.id, c.change); !errors.Is(err, c.want) {
				t.Errorf("%s: %s: %+v, %v; want %v", how, name, e, err, c.want)
			}
		}
	}
}

// A bundle vouches for its own trust domain only.
func TestBundlesAreApart(t *testing.T) {
	a, b := testkit.StartSPIFFE(t), testkit.StartSPIFFE(t)
	o := options()
	o.Bundles = []spiffe.Bundle{{TrustDomain: "example.org", File: bundle(t, a)}, {TrustDomain: "example.com", File: bundle(t, b)}}
	o.Rules = append(o.Rules, spiffe.Rule{ID: "spiffe://example.com/**", Account: "partner"})
	p := open(t, o)
	if e, err := identify(t, p, b, "spiffe://example.com/x", nil); err != nil || e.Name != "partner" {
		t.Errorf("own trust domain: %+v, %v", e, err)
	}
	if e, err := identify(t, p, b, builder, nil); !errors.Is(err, auth.ErrRefused) {
		t.Errorf("another's trust domain: %+v, %v; want ErrRefused", e, err)
	}
}

// A new authority of the agent counts at once and the old one no more, also for berthd's own certificate; an agent that is
// away changes nothing.
func TestRotation(t *testing.T) {
	a := testkit.StartSPIFFE(t)
	o := options()
	o.WorkloadAPI = a.Addr
	p := open(t, o)
	old := a.Issue(t, builder, nil).Leaf
	before, err := p.Certificate()
	if err != nil || !slices.Contains(before.Leaf.DNSNames, "localhost") {
		t.Fatalf("own certificate: %v", err)
	}
	a.Rotate(t)
	eventually(t, "a new authority", func() bool {
		_, err := identify(t, p, a, builder, nil)
		return err == nil
	})
	if _, err := p.Identify(t.Context(), []*x509.Certificate{old}); !errors.Is(err, auth.ErrRefused) {
		t.Errorf("by the old authority: %v; want ErrRefused", err)
	}
	after, err := p.Certificate()
	if err != nil || after.Leaf.Equal(before.Leaf) {
		t.Errorf("own certificate after a rotation: %v", err)
	}
	a.Stop()
	if _, err := identify(t, p, a, builder, nil); err != nil {
		t.Errorf("agent away: %v", err)
	}
	a.Start(t)
	a.Rotate(t)
	eventually(t, "the agent that is back", func() bool {
		_, err := identify(t, p, a, builder, nil)
		return err == nil
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s was not heard of", what)
		}
	}
}

func TestBundleFileReplaced(t *testing.T) {
	a, b := testkit.StartSPIFFE(t), testkit.StartSPIFFE(t)
	file := bundle(t, a)
	now := time.Now()
	o := options()
	o.Bundles, o.Now = []spiffe.Bundle{{TrustDomain: "example.org", File: file}}, func() time.Time { return now }
	p := open(t, o)
	if err := os.WriteFile(file+".new", b.Bundle(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
	now = now.Add(3 * time.Second)
	if _, err := identify(t, p, b, builder, nil); err != nil {
		t.Errorf("by the new authority: %v", err)
	}
	if _, err := identify(t, p, a, builder, nil); !errors.Is(err, auth.ErrRefused) {
		t.Errorf("by the old authority: %v; want ErrRefused", err)
	}
}

func TestTokens(t *testing.T) {
	a, stranger := testkit.StartSPIFFE(t), testkit.StartSPIFFE(t)
	o := options()
	o.WorkloadAPI = a.Addr
	p := open(t, o)
	good := a.JWT(t, builder, "berth", map[string]any{"team": "ci", "iss": "https://oidc.example.org"})
	eventually(t, "keys of tokens", func() bool {
		_, err := p.Verify(t.Context(), good)
		return err == nil
	})
	if s, err := p.Verify(t.Context(), good); err != nil || s.Issuer != "spiffe://example.org" || s.Subject != builder || s.Claims["team"] != "ci" {
		t.Errorf("statement: %+v, %v", s, err)
	}
	parts := strings.Split(good, ".")
	for name, token := range map[string]string{
		"for another":             a.JWT(t, builder, "someone", nil),
		"expired":                 a.JWT(t, builder, "berth", map[string]any{"exp": time.Now().Add(-5 * time.Minute).Unix()}),
		"without an end":          a.JWT(t, builder, "berth", map[string]any{"exp": nil}),
		"not yet valid":           a.JWT(t, builder, "berth", map[string]any{"nbf": time.Now().Add(time.Hour).Unix()}),
		"of another trust domain": a.JWT(t, "spiffe://example.com/x", "berth", nil),
		"no SPIFFE ID":            a.JWT(t, "builder", "berth", nil),
		"by a stranger":           stranger.JWT(t, builder, "berth", nil),
		"without a signature":     parts[0] + "." + parts[1] + ".",
		"signature of another":    parts[0] + "." + parts[1] + "." + strings.Split(a.JWT(t, builder, "someone", nil), ".")[2],
		"JSON":                    `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
		"nothing":                 "",
		"many dots":               strings.Repeat(".", 20_000),
	} {
		if s, err := p.Verify(t.Context(), token); !errors.Is(err, auth.ErrRefused) {
			t.Errorf("%s: %+v, %v; want ErrRefused", name, s, err)
		}
	}
	none := options()
	none.Audience, none.Bundles = "", []spiffe.Bundle{{TrustDomain: "example.org", File: bundle(t, a)}}
	if _, err := open(t, none).Verify(t.Context(), good); !errors.Is(err, auth.ErrRefused) {
		t.Errorf("without an audience: %v; want ErrRefused", err)
	}
}

func TestNewRefuses(t *testing.T) {
	a := testkit.StartSPIFFE(t)
	file := bundle(t, a)
	for name, change := range map[string]func(*spiffe.Options){
		"nothing to trust":     func(o *spiffe.Options) { o.Bundles = nil },
		"address":              func(o *spiffe.Options) { o.WorkloadAPI = "/run/agent.sock" },
		"bundle not there":     func(o *spiffe.Options) { o.Bundles[0].File += ".gone" },
		"bundle without any":   func(o *spiffe.Options) { o.Bundles[0].File = os.DevNull },
		"no trust domain":      func(o *spiffe.Options) { o.Bundles[0].TrustDomain = "Example Org" },
		"two bundles of one":   func(o *spiffe.Options) { o.Bundles = append(o.Bundles, o.Bundles[0]) },
		"any trust domain":     func(o *spiffe.Options) { o.Rules[0].ID = "spiffe://*/ns/ci" },
		"part of a segment":    func(o *spiffe.Options) { o.Rules[0].ID = "spiffe://example.org/ns/ci-*" },
		"** in the middle":     func(o *spiffe.Options) { o.Rules[0].ID = "spiffe://example.org/**/x" },
		"neither":              func(o *spiffe.Options) { o.Rules[0].Robot = "" },
		"both":                 func(o *spiffe.Options) { o.Rules[0].Account = "x" },
		"no URI":               func(o *spiffe.Options) { o.Rules[0].ID = "example.org/x" },
		"account with a colon": func(o *spiffe.Options) { o.Rules[1].Account = "a:b" },
	} {
		o := options()
		o.Bundles = []spiffe.Bundle{{TrustDomain: "example.org", File: file}}
		change(&o)
		if _, err := spiffe.New(o); err == nil {
			t.Errorf("accepted: %s", name)
		}
	}
}

// A listener that needs the agent's certificate hears in time that there is none.
func TestAgentAwayAtStart(t *testing.T) {
	o := options()
	o.WorkloadAPI = "unix://" + filepath.Join(t.TempDir(), "none.sock")
	p, err := spiffe.New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	start := time.Now()
	if err := p.First(t.Context(), 300*time.Millisecond); err == nil || time.Since(start) > 5*time.Second {
		t.Errorf("first identity: %v after %s", err, time.Since(start))
	}
	if _, err := p.Certificate(); err == nil {
		t.Error("a certificate without an agent")
	}
}
