package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/berth-registry/berth/oci"
)

// Damaged finds the blobs of a folder, that of a layout or one that several layouts share, whose bytes are not those that their names
// say. All of them are read, side by side. The paths are in order; files of other names are nobody's blobs, and a folder that is not
// there has none.
func Damaged(ctx context.Context, blobs string) ([]string, error) {
	var mu sync.Mutex
	var wrong []string
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	err := filepath.WalkDir(blobs, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		d, err := oci.ParseDigest(filepath.Base(filepath.Dir(path)) + ":" + e.Name())
		if err != nil {
			return nil
		}
		g.Go(func() error {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close() //nolint:errcheck // it is only read
			good, err := matches(ctx, f, d)
			if err == nil && !good {
				mu.Lock()
				defer mu.Unlock()
				wrong = append(wrong, path)
			}
			return err
		})
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err = errors.Join(err, g.Wait()); err != nil {
		return nil, fmt.Errorf("layout: read the blobs of %s: %w", blobs, err)
	}
	slices.Sort(wrong)
	return wrong, nil
}

// matches reads all of r and reports whether it has a digest.
func matches(ctx context.Context, r io.Reader, d oci.Digest) (bool, error) {
	h, buf := oci.NewHasher(d.Algorithm()), make([]byte, buffer)
	for ctx.Err() == nil {
		n, err := r.Read(buf)
		_, _ = h.Write(buf[:n]) // never fails
		switch {
		case errors.Is(err, io.EOF):
			return h.Digest() == d, nil
		case err != nil:
			return false, err
		}
	}
	return false, context.Cause(ctx)
}
