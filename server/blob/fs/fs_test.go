package fs_test

import (
	"testing"

	"github.com/berth-registry/berth/internal/durable"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/blobtest"
	"github.com/berth-registry/berth/server/blob/fs"
)

func TestContract(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) blob.Store { return open(t, t.TempDir(), nil) })
}

// open opens a store and closes it when the test ends.
func open(t *testing.T, dir string, hook durable.Hook) *fs.Store {
	t.Helper()
	s, err := fs.New(dir, fs.Options{Hook: hook})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}
