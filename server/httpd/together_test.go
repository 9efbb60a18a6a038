package httpd_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/server/httpd"
)

// TestOneAuthorityForReplicas: replicas that start together in one directory show one authority, whoever makes it.
func TestOneAuthorityForReplicas(t *testing.T) {
	for round := range 30 {
		dir := filepath.Join(t.TempDir(), "tls")
		cas := make([][]byte, 6)
		var all sync.WaitGroup
		for i := range cas {
			all.Go(func() {
				c, err := httpd.OpenCertificates(httpd.CertOptions{Dir: dir, Log: slog.New(slog.DiscardHandler), Now: time.Now})
				if err != nil {
					t.Error(err)
					return
				}
				cas[i] = c.CA()
			})
		}
		all.Wait()
		for i, ca := range cas {
			if len(ca) == 0 || !bytes.Equal(ca, cas[0]) {
				t.Errorf("round %d: replica %d has an authority of its own", round, i)
			}
		}
		if left, err := filepath.Glob(filepath.Join(dir, "first-ca*")); err != nil || len(left) > 0 {
			t.Errorf("round %d: left behind: %v %v", round, left, err)
		}
	}
}

// TestAuthorityOfReplicaThatDied: an authority that was agreed on when its replica died, before its files were all in place,
// is the one that the others show.
func TestAuthorityOfReplicaThatDied(t *testing.T) {
	open := func(dir string) []byte {
		t.Helper()
		c, err := httpd.OpenCertificates(httpd.CertOptions{Dir: dir, Log: slog.New(slog.DiscardHandler), Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		return c.CA()
	}
	read := func(name string) []byte {
		t.Helper()
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	made := filepath.Join(t.TempDir(), "made")
	agreed := open(made)
	for _, keyInPlace := range []bool{false, true} {
		dir := filepath.Join(t.TempDir(), "tls")
		if err := os.MkdirAll(filepath.Join(dir, "first-ca"), 0o700); err != nil {
			t.Fatal(err)
		}
		pair := append(read(filepath.Join(made, "ca.key")), read(filepath.Join(made, "ca.crt"))...)
		if err := os.WriteFile(filepath.Join(dir, "first-ca", "pair.pem"), pair, 0o600); err != nil {
			t.Fatal(err)
		}
		if keyInPlace {
			if err := os.WriteFile(filepath.Join(dir, "ca.key"), read(filepath.Join(made, "ca.key")), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if ca := open(dir); !bytes.Equal(ca, agreed) {
			t.Errorf("key in place %v: another authority than the agreed one", keyInPlace)
		}
		if _, err := os.Stat(filepath.Join(dir, "first-ca")); !os.IsNotExist(err) {
			t.Errorf("the offer is still there: %v", err)
		}
	}
}
