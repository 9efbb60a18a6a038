package blob_test

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/blobtest"
	"github.com/berth-registry/berth/server/blob/fs"
	"github.com/berth-registry/berth/server/blob/mem"
)

func TestObserveKeepsContract(t *testing.T) {
	blobtest.Run(t, func(*testing.T) blob.Store { return blob.Observe(mem.New(), func(string, float64, error) {}) })
}

func TestObserveReportsEachAction(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]int{}
	failed := map[string]int{}
	s := blob.Observe(redirecting{mem.New()}, func(action string, seconds float64, err error) {
		mu.Lock()
		defer mu.Unlock()
		seen[action]++
		if err != nil {
			failed[action]++
		}
		if seconds < 0 || seconds > 10 {
			t.Errorf("%s took %f seconds", action, seconds)
		}
	})
	d := blobtest.Put(t, s, "one", []byte("x"))
	blobtest.RequireContent(t, s, d, []byte("x"))
	blobtest.RequireNoBlob(t, s, oci.FromBytes(oci.SHA256, nil))
	if err := errors.Join(s.Delete(t.Context(), d), s.Abort(t.Context(), "one", blob.State{}), s.Check(t.Context())); err != nil {
		t.Fatal(err)
	}
	if _, err := s.(blob.Redirector).URL(t.Context(), d); !errors.Is(err, errWriter) {
		t.Errorf("url: %v", err)
	}
	for _, action := range []string{"upload", "suspend", "commit", "abort", "delete", "check", "url"} {
		if seen[action] != 1 {
			t.Errorf("%s was reported %d times, want once", action, seen[action])
		}
	}
	if seen["open"] != 2 || failed["open"] != 1 || failed["url"] != 1 || failed["commit"] != 0 {
		t.Errorf("reported %v, failed %v", seen, failed)
	}
}

// The result has the optional powers of the store, no more and no fewer.
func TestObserveKeepsPowers(t *testing.T) {
	disk, err := fs.New(t.TempDir(), fs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	for name, c := range map[string]struct {
		store            blob.Store
		redirects, space bool
	}{
		"mem":             {mem.New(), false, false},
		"fs":              {disk, false, true},
		"redirecting mem": {redirecting{mem.New()}, true, false},
		"redirecting fs":  {redirectingDisk{disk}, true, true},
	} {
		s := blob.Observe(c.store, func(string, float64, error) {})
		if _, ok := s.(blob.Redirector); ok != c.redirects {
			t.Errorf("%s: redirector %t", name, ok)
		}
		if _, ok := s.(blob.Spacer); ok != c.space {
			t.Errorf("%s: spacer %t", name, ok)
		}
	}
	s := blob.Observe(disk, func(string, float64, error) {})
	d := blobtest.Put(t, s, "file", []byte("x"))
	c, _, err := s.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, ok := c.(*os.File); !ok {
		t.Errorf("content is a %T, want *os.File for sendfile", c)
	}
}

type redirecting struct{ blob.Store }

func (redirecting) URL(context.Context, oci.Digest) (string, error) { return "", errWriter }

type redirectingDisk struct{ *fs.Store }

func (redirectingDisk) URL(context.Context, oci.Digest) (string, error) { return "", errWriter }
