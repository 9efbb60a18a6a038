package cli

import (
	"compress/flate"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"

	"go.podman.io/image/v5/directory"
	"go.podman.io/image/v5/docker/archive"
	ociarchive "go.podman.io/image/v5/oci/archive"
	liblayout "go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/layout"
)

// blame is called when the library could not copy from a file or folder: when that may be for its bytes, they are read again, and what is
// wrong with them is said in our words, with the place and both digests. Else the error stays.
func (a *app) blame(ctx context.Context, err error, img types.ImageReference, sys *types.SystemContext) error {
	if err == nil || ctx.Err() != nil || !ofContent(err) {
		return err
	}
	within := img.StringWithinTransport()
	var wrong error
	switch img.Transport() {
	case archive.Transport:
		file, _, _ := strings.Cut(within, ":")
		wrong = layout.VerifySaved(ctx, file, layout.Limits{})
	case directory.Transport:
		wrong = layout.VerifyDir(ctx, within)
	case ociarchive.Transport:
		file, at, named := layoutName("oci-archive:" + within)
		l, oerr := layout.OpenPacked(ctx, file, a.bigTemp(), layout.Limits{})
		if oerr != nil || !named {
			return err
		}
		defer l.Close() //nolint:errcheck // it was only read
		wrong = layout.VerifyImage(ctx, l, at)
	case liblayout.Transport:
		dir, at, named := layoutName("oci:" + within)
		l, oerr := layout.OpenDir(dir)
		if oerr != nil || !named || sys != nil && sys.OCISharedBlobDirPath != "" {
			return err
		}
		defer l.Close() //nolint:errcheck // it was only read
		wrong = layout.VerifyImage(ctx, l, at)
	}
	if errors.Is(wrong, layout.ErrSpoiled) {
		return wrong
	}
	return err
}

// ofContent reports whether an error of the library may be for what was read. It has no types for that.
func ofContent(err error) bool {
	if errors.As(err, new(*fault.Error)) {
		return false
	}
	for _, e := range []error{fs.ErrNotExist, gzip.ErrChecksum, gzip.ErrHeader, io.ErrUnexpectedEOF, os.ErrInvalid} {
		if errors.Is(err, e) {
			return true
		}
	}
	if errors.As(err, new(flate.CorruptInputError)) || errors.As(err, new(*json.SyntaxError)) || errors.As(err, new(*json.UnmarshalTypeError)) {
		return true
	}
	text := err.Error()
	for _, words := range []string{"igest did not match", "does not match", "ize mismatch", "missing in the tarball", "invalid checksum", "corrupt", "magic number", "decoding tar config"} {
		if strings.Contains(text, words) {
			return true
		}
	}
	return false
}
