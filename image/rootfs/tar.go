package rootfs

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"maps"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Tar writes the file system of the image to w as one tar archive in the POSIX format, with owners, modes, times and
// extended attributes as the layers have them. The order is Walk's, so a directory may come after what is in it. When it
// fails, what was written has no end mark and must be thrown away.
func Tar(ctx context.Context, img v1.Image, limits Limits, w io.Writer) error {
	out := tar.NewWriter(w)
	err := Walk(ctx, img, limits, func(e *Entry, r io.Reader) error {
		h := header(e)
		if err := out.WriteHeader(h); err != nil {
			return fmt.Errorf("rootfs: write %q: %w", e.Path, err)
		}
		if h.Typeflag != tar.TypeReg {
			return nil
		}
		if _, err := io.Copy(out, r); err != nil {
			return fmt.Errorf("rootfs: write %q: %w", e.Path, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("rootfs: end of the archive: %w", err)
	}
	return nil
}

// header is the entry's header as it can be written: sparse files become whole ones.
func header(e *Entry) *tar.Header {
	h := *e.Header
	h.Format = tar.FormatPAX
	h.PAXRecords = maps.Clone(h.PAXRecords)
	maps.DeleteFunc(h.PAXRecords, func(k, _ string) bool { return !strings.HasPrefix(k, "SCHILY.xattr.") })
	switch h.Typeflag {
	case tar.TypeGNUSparse:
		h.Typeflag = tar.TypeReg
	case tar.TypeDir:
		h.Name += "/"
	}
	if h.Typeflag != tar.TypeReg {
		h.Size = 0
	}
	return &h
}
