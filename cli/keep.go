package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.podman.io/image/v5/directory"
	"go.podman.io/image/v5/docker/archive"
	ociarchive "go.podman.io/image/v5/oci/archive"
	liblayout "go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/image/layout"
	"github.com/berth-registry/berth/internal/durable"
	"github.com/berth-registry/berth/oci"
)

// keep has the library write beside what is there: the library empties a folder, truncates an archive or writes an index over the
// old one before it knows whether it will succeed. It returns where to write to, and what to call with the outcome: it puts the
// new in the place of the old, or leaves the old as it was and nothing of the new.
//
// The library also takes a blob that lies in a layout for the one of its name. So those that are not are put aside first.
func keep(ctx context.Context, target types.ImageReference, sys *types.SystemContext) (types.ImageReference, func(error) error, error) {
	same := func(err error) error { return err }
	within := target.StringWithinTransport()
	switch target.Transport() {
	case directory.Transport:
		return keepFolder(target, within)
	case ociarchive.Transport:
		file, rest, _ := strings.Cut(within, ":")
		info, err := os.Stat(file)
		if err == nil && !info.Mode().IsRegular() {
			break // a device or a pipe
		}
		fresh := beside(file)
		ref, err := ociarchive.Transport.ParseReference(fresh + ":" + rest)
		if err != nil {
			return nil, nil, err
		}
		return ref, func(err error) error {
			if err == nil {
				err = os.Rename(fresh, file)
			}
			if err != nil {
				_ = os.Remove(fresh) // what is not whole must not be found
			}
			return err
		}, nil
	case archive.Transport:
		file, _, _ := strings.Cut(within, ":")
		if info, err := os.Stat(file); err == nil && (info.Size() > 0 || !info.Mode().IsRegular()) {
			break // the library refuses to add to one
		}
		return target, func(err error) error {
			if info, serr := os.Stat(file); err != nil && serr == nil && info.Mode().IsRegular() {
				_ = os.Remove(file) // the library leaves it when the disk is full
			}
			return err
		}, nil
	case liblayout.Transport:
		dir, _, _ := strings.Cut(within, ":")
		blobs := filepath.Join(dir, "blobs")
		if sys != nil && sys.OCISharedBlobDirPath != "" {
			blobs = sys.OCISharedBlobDirPath
		}
		bring, err := putAside(ctx, blobs)
		if err != nil {
			return nil, nil, err
		}
		if sys != nil && sys.OCISharedBlobDirPath == "" {
			if ref, enter, err := besideIndex(ctx, within, sys); ref != nil || err != nil {
				if err != nil {
					return nil, nil, errors.Join(err, bring())
				}
				return ref, func(err error) error { return errors.Join(enter(err), bring()) }, nil
			}
		}
		ref, index, err := keepIndex(target, filepath.Join(dir, "index.json"))
		if err != nil {
			return nil, nil, errors.Join(err, bring())
		}
		return ref, func(err error) error { return errors.Join(index(err), bring()) }, nil
	}
	return target, same, nil
}

// tidy removes what killed processes left in a layout that is about to be written to.
func (a *app) tidy(target types.ImageReference) {
	if target.Transport() != liblayout.Transport {
		return
	}
	dir, _, _ := strings.Cut(target.StringWithinTransport(), ":")
	l, err := layout.OpenDir(dir)
	if err != nil {
		return // it is none yet, or who writes to it says what is wrong
	}
	l.Tidy(a.now())
	_ = l.Close() // it was only looked at
}

// beside is a name in the same folder that is not there.
func beside(file string) string {
	return filepath.Join(filepath.Dir(file), "."+filepath.Base(file)+"."+strings.ToLower(rand.Text()))
}

// putAside renames the damaged blobs of a folder. bring gives those their names back that nobody wrote anew, and removes the others.
func putAside(ctx context.Context, blobs string) (bring func() error, err error) {
	wrong, err := layout.Damaged(ctx, blobs)
	if err != nil {
		return nil, err
	}
	aside := func(file string) string { return filepath.Join(filepath.Dir(file), "."+filepath.Base(file)+".damaged") }
	bring = func() error {
		var errs []error
		for _, file := range wrong {
			if _, err := os.Lstat(file); err == nil { // written anew
				errs = append(errs, os.Remove(aside(file)))
			} else {
				errs = append(errs, os.Rename(aside(file), file))
			}
		}
		return errors.Join(errs...)
	}
	for i, file := range wrong {
		if err := os.Rename(file, aside(file)); err != nil {
			wrong = wrong[:i]
			return nil, errors.Join(err, bring())
		}
	}
	return bring, nil
}

// besideIndex has the library write its index beside that of a layout, and its blobs where they belong. What it wrote is entered into
// the index afterwards, as our own copies do it: the library writes what it read before it began, without the names that others have
// entered since. It returns nil for a name that only the library understands.
func besideIndex(ctx context.Context, within string, sys *types.SystemContext) (types.ImageReference, func(error) error, error) {
	dir, at, ok := layoutName("oci:" + within)
	if !ok {
		return nil, nil, nil
	}
	_, statErr := os.Stat(dir)
	l, err := layout.CreateDir(dir)
	if err != nil {
		return nil, nil, err
	}
	fresh := filepath.Join(dir, newFolder+strings.ToLower(rand.Text()))
	drop := func(err error) error {
		if err = errors.Join(err, os.RemoveAll(fresh)); err != nil && errors.Is(statErr, fs.ErrNotExist) {
			removeEmpty(l) // an empty layout would look like something
		}
		return errors.Join(err, l.Close())
	}
	ref, err := liblayout.Transport.ParseReference(fresh + ":" + at.Tag)
	if err == nil {
		err = os.Mkdir(fresh, 0o755)
	}
	if err != nil {
		return nil, nil, drop(err)
	}
	sys.OCISharedBlobDirPath = filepath.Join(dir, "blobs")
	enter := func() error {
		body, err := readFile(filepath.Join(fresh, "index.json"), layout.MaxManifest)
		if err != nil {
			return err
		}
		written, err := oci.ParseManifest(oci.MediaTypeIndex, body)
		if err != nil {
			return err
		}
		if len(written.Manifests) != 1 {
			return fmt.Errorf("the library wrote %d images, and not one", len(written.Manifests))
		}
		d := written.Manifests[0]
		if body, err = readFile(filepath.Join(dir, "blobs", string(d.Digest.Algorithm()), d.Digest.Hex()), layout.MaxManifest); err != nil {
			return err
		}
		return l.PutManifest(ctx, at, oci.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}, body)
	}
	return ref, func(err error) error {
		if err == nil {
			err = enter()
		}
		return drop(err)
	}, nil
}

// keepIndex remembers the index of a layout under another name, so that putting it back takes no space.
func keepIndex(target types.ImageReference, index string) (types.ImageReference, func(error) error, error) {
	body, err := os.ReadFile(index)
	if errors.Is(err, fs.ErrNotExist) {
		return target, func(err error) error { return err }, nil
	}
	if err != nil {
		return nil, nil, err
	}
	old := beside(index)
	if err := durable.WriteFile(old, body, 0o644); err != nil {
		return nil, nil, err
	}
	return target, func(err error) error {
		if err == nil {
			return os.Remove(old)
		}
		return errors.Join(err, os.Rename(old, index))
	}, nil
}

// keepFolder has an image that is in a folder stay until the new one is there as a whole, in a folder of its own inside: the one
// above may be somebody else's. A folder that is empty, or has what an interrupted copy left, is filled likewise. Any other is the
// library's to judge: it refuses those that are not an image's.
func keepFolder(target types.ImageReference, dir string) (types.ImageReference, func(error) error, error) {
	same := func(err error) error { return err }
	old, err := os.ReadDir(dir)
	made := errors.Is(err, fs.ErrNotExist)
	switch {
	case made:
		err = os.MkdirAll(dir, 0o755)
	case err == nil && !mayReplace(dir, old):
		return target, same, nil
	}
	if err != nil {
		return target, same, nil
	}
	fresh := filepath.Join(dir, newFolder+strings.ToLower(rand.Text()))
	ref, err := directory.Transport.ParseReference(fresh)
	if err != nil {
		return nil, nil, err
	}
	if err := os.Mkdir(fresh, 0o755); err != nil {
		return nil, nil, err
	}
	return ref, func(err error) error {
		if err == nil {
			err = replaceFolder(dir, fresh)
		}
		err = errors.Join(err, os.RemoveAll(fresh))
		if err != nil && made {
			_ = os.Remove(dir) // not when something is in it
		}
		return err
	}, nil
}

// newFolder begins the name of the folder that an image is written to.
const newFolder = ".new-"

// mayReplace reports whether a folder says of itself that it is an image's, in a version that the library knows, or has nothing but
// what a copy that was interrupted left in it: some of that has a name that nobody else gives. Blobs alone may be those of a layout.
func mayReplace(dir string, entries []os.DirEntry) bool {
	if slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == "version" }) {
		body, err := readFile(filepath.Join(dir, "version"), 1<<10)
		return err == nil && regexp.MustCompile(`^Directory Transport Version: 1\.[012]\n$`).Match(body)
	}
	written := regexp.MustCompile(`^(\.new-[a-z0-9]+|dir-put-blob[0-9]+|(sha(384|512)-)?[0-9a-f]{64,128}(\.manifest\.json|\.signature-[0-9]+)?|signature-[0-9]+)$`)
	unfinished := len(entries) == 0
	for _, e := range entries {
		if !written.MatchString(e.Name()) {
			return false
		}
		unfinished = unfinished || strings.HasPrefix(e.Name(), newFolder) || strings.HasPrefix(e.Name(), "dir-put-blob")
	}
	return unfinished
}

// replaceFolder puts the files of fresh, a folder inside of dir, in the place of all others there. The manifest goes first and
// comes last: without it there is no image, so a half is never taken for a whole.
func replaceFolder(dir, fresh string) error {
	old, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, name := range append([]string{"manifest.json"}, names(old)...) {
		if name == filepath.Base(fresh) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	now, err := os.ReadDir(fresh)
	if err != nil {
		return err
	}
	for _, name := range append(names(now), "manifest.json") {
		err := os.Rename(filepath.Join(fresh, name), filepath.Join(dir, name))
		if err != nil && !(name == "manifest.json" && errors.Is(err, fs.ErrNotExist)) {
			return err
		}
	}
	return nil
}

// names are those of files, without manifest.json.
func names(entries []os.DirEntry) []string {
	var out []string
	for _, e := range entries {
		if e.Name() != "manifest.json" {
			out = append(out, e.Name())
		}
	}
	return out
}
