package cli

import (
	"context"
	"net"
	"os"
	"runtime"
	"strings"

	"go.podman.io/image/v5/directory"
	"go.podman.io/image/v5/docker/archive"
	"go.podman.io/image/v5/docker/daemon"
	ociarchive "go.podman.io/image/v5/oci/archive"
	liblayout "go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/layout"
	"github.com/berth-registry/berth/image/view"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// look refuses a file or folder that the library is about to read as an image, when that would cost more than it is large (the
// library unpacks archives into a temporary folder, and reads documents into memory, as much as there is), when it would wait
// for ever (pipes), or when it would take what is not what its digest says. What is not there, the library says itself.
func (a *app) look(ctx context.Context, img types.ImageReference, sys *types.SystemContext) error {
	within := img.StringWithinTransport()
	switch img.Transport() {
	case daemon.Transport:
		return daemonAnswers(ctx, img, sys)
	case archive.Transport:
		file, _, _ := strings.Cut(within, ":")
		return layout.LookTar(ctx, file, layout.Limits{})
	case directory.Transport:
		if _, err := os.Stat(within); err != nil {
			return nil
		}
		return layout.LookDir(within)
	case ociarchive.Transport:
		file, at, named := layoutName("oci-archive:" + within)
		l, err := layout.OpenPacked(ctx, file, a.bigTemp(), layout.Limits{})
		if err != nil {
			return err
		}
		defer l.Close() //nolint:errcheck // it was only read
		if !named {
			return nil
		}
		return lookManifest(ctx, l, at)
	case liblayout.Transport:
		dir, at, named := layoutName("oci:" + within)
		if _, err := os.Stat(dir + "/index.json"); err != nil {
			return nil
		}
		l, err := layout.OpenDir(dir)
		if err != nil {
			return err
		}
		defer l.Close() //nolint:errcheck // it was only read
		if !named || sys != nil && sys.OCISharedBlobDirPath != "" {
			return nil
		}
		return lookManifest(ctx, l, at)
	}
	return nil
}

// daemonAnswers reports whether somebody listens at the socket of docker's daemon, when the image is there: a write that finds
// nobody fails in the library with words about its own pipes.
func daemonAnswers(ctx context.Context, img types.ImageReference, sys *types.SystemContext) error {
	if img.Transport() != daemon.Transport {
		return nil
	}
	socket := "/var/run/docker.sock"
	if sys != nil && sys.DockerDaemonHost != "" {
		path, isUnix := strings.CutPrefix(sys.DockerDaemonHost, "unix://")
		if !isUnix {
			return nil
		}
		socket = path
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	return conn.Close()
}

// lookManifest looks at a manifest, its children when it is an index, and whether their blobs are files of the size that they
// are said to have. Their bytes are compared by who reads them.
func lookManifest(ctx context.Context, l view.Source, at ref.Reference) error {
	d, body, err := l.Manifest(ctx, at)
	if err != nil {
		return wrong(err)
	}
	m, err := oci.ParseManifest(d.MediaType, body)
	if err != nil {
		return nil // the library knows forms that we do not
	}
	for _, c := range m.Manifests {
		if err := lookManifest(ctx, l, ref.Reference{Digest: c.Digest}); err != nil {
			return err
		}
	}
	blobs := m.Layers
	if m.Config != nil {
		blobs = append(blobs, *m.Config)
	}
	for _, b := range blobs {
		if b.External() {
			continue
		}
		rc, err := l.Blob(ctx, b, 0)
		if err != nil {
			if err := wrong(err); err != nil {
				return err
			}
			continue
		}
		if err := rc.Close(); err != nil {
			return err
		}
	}
	return nil
}

// wrong is an error that says of a layout that it is damaged or hostile, and nil of any other.
func wrong(err error) error {
	if fault.Has(err, layout.ReasonLayout) {
		return err
	}
	return nil
}

// bigTemp is where large temporary files go: where --tmpdir or TMPDIR say, else where the library has them, for /tmp is memory
// on many machines.
func (a *app) bigTemp() string {
	switch {
	case a.global.TmpDir != "":
		return a.global.TmpDir
	case os.Getenv("TMPDIR") == "" && runtime.GOOS == "linux":
		return "/var/tmp"
	}
	return os.TempDir()
}
