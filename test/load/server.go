package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	readyWait = 30 * time.Second
	readyPoll = 2 * time.Millisecond
)

// server is a running target.
type server struct {
	*target
	launch launch
	proc   *process
	tls    *tls.Config // nil: plain HTTP
	ready  time.Duration
	looks  []look // one for each round (scenario_start.go)
	// holdsLarge says that push-large was run on this store, so that pull-large need not push by itself.
	holdsLarge bool
	// twin is a second process of the same target with another store (scenario_rows.go) or other settings.
	twin *server

	on       *backends // what it stands on; nil: files of its own
	objects  *objects  // of the raw target: the S3 server that it is
	space    string    // name of its database, and of its bucket
	held     large     // what its bucket has for pulls (scenario_objects.go)
	replicas []*server // more processes on the same database and bucket
	borrowed bool      // its process belongs to the stage
}

// startServer starts a target in a fresh folder under parent.
func startServer(ctx context.Context, t *target, parent string, secure bool) (*server, error) {
	return startServerWith(ctx, t, parent, secure, nil)
}

// startServerWith is startServer with more settings in the environment.
func startServerWith(ctx context.Context, t *target, parent string, secure bool, env []string) (*server, error) {
	dir, err := os.MkdirTemp(parent, t.name+"-")
	if err != nil {
		return nil, err
	}
	s := &server{target: t, launch: launch{binary: t.binary, dir: dir, env: env}}
	if secure {
		if s.launch.cert, s.launch.key, err = writeCertificate(dir); err != nil {
			return nil, err
		}
		// The certificate is ours, or made by the server for itself; who it belongs to is not what we measure.
		s.tls = &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
	}
	return s, s.start(ctx)
}

// start runs the process (again, in the same folder) and waits until it serves.
func (s *server) start(ctx context.Context) error {
	var err error
	if s.launch.addr, err = freeAddr(); err != nil {
		return err
	}
	if s.launch.debug, err = freeAddr(); err != nil {
		return err
	}
	argv, env, err := s.command(s.launch)
	if err != nil {
		return fmt.Errorf("configure %s: %w", s.name, err)
	}
	began := time.Now()
	if s.proc, err = startProcess(filepath.Join(s.launch.dir, "log"), s.launch.dir, append(env, s.launch.env...), argv); err != nil {
		return err
	}
	r := newRequest(s.launch.addr, "GET", s.kind.ready, "", 200, -1)
	for time.Since(began) < readyWait {
		c := s.client()
		a, err := c.do(r.head, nil, false, wantNothing)
		c.close()
		if err == nil && (a.status == 200 || a.status == 404 && s.kind.ready == "/ready") {
			s.ready = time.Since(began)
			return nil
		}
		if s.proc.exited() {
			return fmt.Errorf("%s ended at once: %s", s.name, s.proc.logTail())
		}
		if err := sleep(ctx, readyPoll); err != nil {
			return errors.Join(err, s.proc.stop())
		}
	}
	return errors.Join(fmt.Errorf("%s is not ready after %s: %s", s.name, readyWait, s.proc.logTail()), s.proc.stop())
}

// stop ends the process and removes its folder.
func (s *server) stop() error {
	if s.borrowed {
		return nil
	}
	var err error
	if s.proc != nil {
		err = s.proc.stop()
	}
	for _, r := range s.replicas {
		err = errors.Join(err, r.stop())
	}
	if s.twin != nil {
		err = errors.Join(err, s.twin.stop())
	}
	return errors.Join(err, os.RemoveAll(s.launch.dir))
}

func (s *server) client() *client { return newClient(s.launch.addr, s.tls) }

// clientOf is a client for the nth connection: replicas get their turn.
func (s *server) clientOf(n int) *client {
	if n %= len(s.replicas) + 1; n > 0 {
		return s.replicas[n-1].client()
	}
	return s.client()
}

// processes are what counts as the server: all replicas, not what they stand on.
func (s *server) processes() []*process {
	ps := []*process{s.proc}
	for _, r := range s.replicas {
		ps = append(ps, r.proc)
	}
	return ps
}

// usage sums over the replicas.
func (s *server) usage() (usage, error) {
	var sum usage
	for _, p := range s.processes() {
		u, err := p.usage()
		if err != nil {
			return sum, fmt.Errorf("%s ended: %w: %s", s.name, err, p.logTail())
		}
		sum.cpu += u.cpu
		sum.rss += u.rss
		sum.peak += u.peak
	}
	return sum, nil
}

// with runs f on a new connection.
func (s *server) with(f func(c *client) error) error {
	c := s.client()
	defer c.close()
	return f(c)
}

// trimLogs keeps logs out of the disk budget; nginx has its access log beside.
func (s *server) trimLogs() {
	for _, p := range append(s.processes(), s.on.processes()...) {
		p.trimLog()
	}
	if s.borrowed {
		return
	}
	_ = os.Truncate(filepath.Join(s.launch.dir, "access.log"), 0)
}

// freeAddr asks the kernel for a free port. Another process may take it before the server does; then the start fails aloud.
func freeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

// writeCertificate makes a certificate for the loopback address, of the same kind (ECDSA P-256) that berthd makes for itself.
func writeCertificate(dir string) (cert, key string, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", fmt.Errorf("make a certificate: %w", err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "berth bench"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		return "", "", fmt.Errorf("make a certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return "", "", fmt.Errorf("make a certificate: %w", err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	err = errors.Join(
		os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	return cert, key, err
}
