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

// TestOneAuthorityForReplicas: replicas that start together in one directory show one authority, whoever makes it, also
// when one that began to make it has died.
func TestOneAuthorityForReplicas(t *testing.T) {
	for round := range 5 {
		dir := filepath.Join(t.TempDir(), "tls")
		if round == 4 {
			if err := os.MkdirAll(filepath.Join(dir, ".making-ca"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
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
	}
}
