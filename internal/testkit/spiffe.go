package testkit

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// SPIFFETrustDomain is the trust domain of SPIFFEAgent, and SPIFFESelf the identity that it gives to whoever asks.
const (
	SPIFFETrustDomain = "example.org"
	SPIFFESelf        = "spiffe://example.org/berthd"
)

// SPIFFEAgent is the Workload API of a trust domain of one test's own, on a Unix socket, and the authority behind it.
// Safe for concurrent use.
type SPIFFEAgent struct {
	workload.UnimplementedSpiffeWorkloadAPIServer

	Addr string // unix:///…

	mu      sync.Mutex
	server  *grpc.Server
	key     *ecdsa.PrivateKey
	cert    *x509.Certificate
	jwtKey  *ecdsa.PrivateKey
	serial  int64
	changed chan struct{} // closed by Rotate
}

// StartSPIFFE starts an agent that ends with the test.
func StartSPIFFE(t testing.TB) *SPIFFEAgent {
	t.Helper()
	dir, err := os.MkdirTemp("", "berth-spiffe-") // a short path: that of a socket has about 100 bytes
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	a := &SPIFFEAgent{Addr: "unix://" + filepath.Join(dir, "agent.sock"), changed: make(chan struct{})}
	a.renew(t)
	a.Start(t)
	t.Cleanup(a.Stop)
	return a
}

// Start starts the agent again after Stop, with the same authority.
func (a *SPIFFEAgent) Start(t testing.TB) {
	t.Helper()
	path := a.Addr[len("unix://"):]
	_ = os.Remove(path)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatalf("testkit: SPIFFE agent: %v", err)
	}
	s := grpc.NewServer()
	workload.RegisterSpiffeWorkloadAPIServer(s, a)
	a.mu.Lock()
	a.server = s
	a.mu.Unlock()
	go func() { _ = s.Serve(l) }()
}

// Stop ends the agent and its streams.
func (a *SPIFFEAgent) Stop() {
	a.mu.Lock()
	s := a.server
	a.mu.Unlock()
	s.Stop()
}

// Rotate gives the trust domain a new authority and new keys, in place of the old ones, and says so to who listens.
func (a *SPIFFEAgent) Rotate(t testing.TB) {
	t.Helper()
	a.renew(t)
}

func (a *SPIFFEAgent) renew(t testing.TB) {
	t.Helper()
	key, cert, err := newSPIFFEAuthority()
	if err != nil {
		t.Fatalf("testkit: SPIFFE authority: %v", err)
	}
	jwtKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("testkit: SPIFFE authority: %v", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.key, a.cert, a.jwtKey = key, cert, jwtKey
	close(a.changed)
	a.changed = make(chan struct{})
}

func newSPIFFEAuthority() (*ecdsa.PrivateKey, *x509.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Organization: []string{"berth test trust domain"}, SerialNumber: serial.String()},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		URIs: []*url.URL{{Scheme: "spiffe", Host: SPIFFETrustDomain}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return key, cert, err
}

// Bundle is the authority, in PEM.
func (a *SPIFFEAgent) Bundle() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// Issue makes an X.509-SVID. change may spoil it before it is signed; nil does not.
func (a *SPIFFEAgent) Issue(t testing.TB, id string, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	c, err := a.issue(id, change)
	if err != nil {
		t.Fatalf("testkit: X.509-SVID: %v", err)
	}
	return c
}

func (a *SPIFFEAgent) issue(id string, change func(*x509.Certificate)) (tls.Certificate, error) {
	u, err := url.Parse(id)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.serial), URIs: []*url.URL{u}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

// JWT makes a JWT-SVID. claims come on top of sub, aud, iat and exp.
func (a *SPIFFEAgent) JWT(t testing.TB, id, audience string, claims map[string]any) string {
	t.Helper()
	a.mu.Lock()
	key := a.jwtKey
	a.mu.Unlock()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "jwt"}}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		t.Fatalf("testkit: JWT-SVID: %v", err)
	}
	all := map[string]any{"sub": id, "aud": []string{audience}, "iat": time.Now().Unix(), "exp": time.Now().Add(5 * time.Minute).Unix()}
	for name, value := range claims {
		all[name] = value
	}
	text, err := jwt.Signed(signer).Claims(all).Serialize()
	if err != nil {
		t.Fatalf("testkit: JWT-SVID: %v", err)
	}
	return text
}

// follow sends the present state and the next ones, until the stream ends.
func (a *SPIFFEAgent) follow(ctx context.Context, send func() error) error {
	if m, _ := metadata.FromIncomingContext(ctx); len(m.Get("workload.spiffe.io")) == 0 {
		return status.Error(codes.InvalidArgument, "security header missing") // SPIFFE Workload Endpoint section 5
	}
	for {
		a.mu.Lock()
		changed := a.changed
		a.mu.Unlock()
		if err := send(); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// FetchX509SVID implements the Workload API.
func (a *SPIFFEAgent) FetchX509SVID(_ *workload.X509SVIDRequest, s grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	return a.follow(s.Context(), func() error {
		c, err := a.issue(SPIFFESelf, func(c *x509.Certificate) {
			c.DNSNames, c.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
		})
		if err != nil {
			return err
		}
		key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
		if err != nil {
			return err
		}
		a.mu.Lock()
		bundle := a.cert.Raw
		a.mu.Unlock()
		return s.Send(&workload.X509SVIDResponse{Svids: []*workload.X509SVID{
			{SpiffeId: SPIFFESelf, X509Svid: c.Certificate[0], X509SvidKey: key, Bundle: bundle},
		}})
	})
}

// FetchJWTBundles implements the Workload API.
func (a *SPIFFEAgent) FetchJWTBundles(_ *workload.JWTBundlesRequest, s grpc.ServerStreamingServer[workload.JWTBundlesResponse]) error {
	return a.follow(s.Context(), func() error {
		bundle, err := a.jwtBundle()
		if err != nil {
			return err
		}
		return s.Send(&workload.JWTBundlesResponse{Bundles: map[string][]byte{"spiffe://" + SPIFFETrustDomain: bundle}})
	})
}

func (a *SPIFFEAgent) jwtBundle() ([]byte, error) {
	domain, err := spiffeid.TrustDomainFromString(SPIFFETrustDomain)
	if err != nil {
		return nil, err
	}
	b := jwtbundle.New(domain)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := b.AddJWTAuthority("jwt", a.jwtKey.Public()); err != nil {
		return nil, err
	}
	return b.Marshal()
}
