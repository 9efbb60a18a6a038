package artifact

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/rootfs"
	"github.com/berth-registry/berth/image/view"
	"github.com/berth-registry/berth/oci"
)

// PullOptions say how files are taken out.
type PullOptions struct {
	Limits rootfs.Limits // of archives that are unpacked
	Keep   bool          // fail with FILE_EXISTS rather than replace what is there
	Pack   bool          // leave archives of directories packed
	Title  string        // only the file of this name; "" is all
	Digest string        // only the file with this digest; "" is all
}

// wants reports whether a layer is among those that are taken out.
func (o PullOptions) wants(d oci.Descriptor) bool {
	return d.MediaType != oci.MediaTypeEmpty && (o.Title == "" || d.Annotations[Title] == o.Title) && (o.Digest == "" || d.Digest.String() == o.Digest)
}

// chosen are the layers that are taken out. None is FILE_UNKNOWN, when some were asked for.
func (o PullOptions) chosen(n *view.Node) ([]oci.Descriptor, error) {
	if n.IsIndex() {
		return nil, fault.New(fault.Invalid, view.NotAnImage, "%s is an index and not an artifact; name one of what it lists", n.Descriptor.Digest)
	}
	var out []oci.Descriptor
	var names []string
	for _, d := range n.Manifest.Layers {
		if o.wants(d) {
			out = append(out, d)
		}
		if d.MediaType != oci.MediaTypeEmpty {
			names = append(names, strconv.Quote(d.Annotations[Title]))
		}
	}
	if len(out) == 0 && (o.Title != "" || o.Digest != "") {
		return nil, fault.New(fault.NotFound, rootfs.FileUnknown, "the artifact has no file %q; it has %.500s", o.Title+o.Digest, strings.Join(names, ", "))
	}
	return out, nil
}

// PullFile writes the one file of an artifact, or the one that is chosen, to a path, whatever it is called. It appears when it is whole
// and its digest was right. Of several it is FILE_UNKNOWN.
func PullFile(ctx context.Context, n *view.Node, file string, o PullOptions) error {
	list, err := o.chosen(n)
	if err != nil {
		return err
	}
	if len(list) != 1 {
		return fault.New(fault.Invalid, rootfs.FileUnknown, "the artifact has %d files, and a path that is no directory takes one; choose it by its title or digest", len(list))
	}
	root, err := os.OpenRoot(filepath.Dir(file))
	if err != nil {
		return fmt.Errorf("artifact: %w", err)
	}
	defer root.Close() //nolint:errcheck // nothing is written through it any more
	p := puller{root: root, node: n, o: o}
	return p.layer(ctx, list[0], filepath.Base(file))
}

// Written is a file or directory that was taken out.
type Written struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
	Type   string `json:"mediaType"`
}

// Pull writes the files of an artifact into dir, which is made. A layer without a name is called by its digest. Each file
// and each directory appears when it is whole and its digest was right; what Pull fails at is as it was.
//
// It fails with NAME_UNSAFE when a name or an archive would write elsewhere, before anything of that layer is written.
func Pull(ctx context.Context, n *view.Node, dir string, o PullOptions) ([]Written, error) {
	todo, err := o.chosen(n)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("artifact: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("artifact: %w", err)
	}
	defer root.Close() //nolint:errcheck // nothing is written through it any more
	p := puller{root: root, node: n, o: o}
	names := map[string]bool{}
	for _, d := range todo {
		name, err := nameOf(d)
		if err != nil {
			return nil, err
		}
		if names[name] {
			return nil, fault.New(fault.Invalid, NameUnsafe, "the artifact has two files called %q", name)
		}
		names[name] = true
	}
	var out []Written
	for _, d := range todo {
		name, _ := nameOf(d) // it was looked at above
		if err := p.layer(ctx, d, name); err != nil {
			return out, fmt.Errorf("artifact: %s: %w", name, err)
		}
		out = append(out, Written{name, d.Digest.String(), d.Size, d.MediaType})
	}
	return out, nil
}

// nameOf is where a layer is written, as a path below the directory.
func nameOf(d oci.Descriptor) (string, error) {
	name := d.Annotations[Title]
	if name == "" {
		return string(d.Digest.Algorithm()) + "-" + d.Digest.Hex(), nil
	}
	if strings.ContainsAny(name, "\x00\\") || !filepath.IsLocal(filepath.FromSlash(name)) || path.Clean(name) == "." {
		return "", fault.New(fault.Invalid, NameUnsafe, "the artifact has a file called %.200q, which is outside of the directory; nothing was written", name)
	}
	return path.Clean(name), nil
}

type puller struct {
	root *os.Root
	node *view.Node
	o    PullOptions
}

// partial is the name under which something is written until it is whole.
func partial(name string) string {
	return path.Join(path.Dir(name), "."+path.Base(name)+".berth-partial")
}

func (p *puller) layer(ctx context.Context, d oci.Descriptor, name string) error {
	_, err := p.root.Lstat(name)
	if err == nil && p.o.Keep {
		return fault.New(fault.Conflict, FileExists, "%q exists already and is to be kept", name)
	}
	if parent := path.Dir(name); parent != "." {
		if err := p.root.MkdirAll(parent, 0o755); err != nil {
			return err
		}
	}
	if err := p.root.RemoveAll(partial(name)); err != nil { // of a run that was killed
		return err
	}
	if d.Annotations[unpack] == "true" && !p.o.Pack {
		err = p.directory(ctx, d, name)
	} else {
		err = p.file(ctx, d, name)
	}
	if err != nil {
		_ = p.root.RemoveAll(partial(name)) // what is not whole must not be found
	}
	return err
}

func (p *puller) file(ctx context.Context, d oci.Descriptor, name string) error {
	r, err := p.node.Source().Blob(ctx, d, 0)
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // it was only read
	f, err := p.root.OpenFile(partial(name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, r)
	if err == nil && n != d.Size {
		err = fault.New(fault.Invalid, fault.SizeInvalid, "it has %d bytes, and the manifest says %d", n, d.Size)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return p.root.Rename(partial(name), name)
}

// directory unpacks an archive beside its place, and exchanges it with what is there.
func (p *puller) directory(ctx context.Context, d oci.Descriptor, name string) error {
	l, err := view.Layer(ctx, p.node, d)
	if err != nil {
		return err
	}
	if err := p.root.Mkdir(partial(name), 0o755); err != nil {
		return err
	}
	into, err := p.root.OpenRoot(partial(name))
	if err != nil {
		return err
	}
	modes := map[string]fs.FileMode{}
	err = rootfs.Archive(ctx, l, p.o.Limits, func(e *rootfs.Entry, r io.Reader) error {
		rel, ok := below(name, e.Path)
		if !ok {
			return fault.New(fault.Invalid, NameUnsafe, "its archive has the path %.200q, which is not below %q", e.Path, name)
		}
		return extract(into, name, rel, e, r, modes)
	})
	if err == nil {
		for rel, mode := range modes { // at the end, so that one without write permission can be filled
			err = errors.Join(err, into.Chmod(rel, mode))
		}
	}
	if err = errors.Join(err, into.Close()); err != nil {
		return err
	}
	old := partial(name) + "-old"
	if err := p.root.RemoveAll(old); err != nil {
		return err
	}
	if err := p.root.Rename(name, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := p.root.Rename(partial(name), name); err != nil {
		return errors.Join(err, p.root.Rename(old, name))
	}
	return p.root.RemoveAll(old)
}

// below is the path inside of the directory: archives of directories repeat its name.
func below(name, p string) (string, bool) {
	if p == name || p == "." {
		return ".", true
	}
	return strings.CutPrefix(p, name+"/")
}

// extract writes one entry. Names stay inside because into is an os.Root; that links do, for whoever follows them later, is
// checked here.
func extract(into *os.Root, name, rel string, e *rootfs.Entry, r io.Reader, modes map[string]fs.FileMode) error {
	h := e.Header
	mode := fs.FileMode(h.Mode).Perm()
	if parent := path.Dir(rel); parent != "." {
		if err := into.MkdirAll(parent, 0o755); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		modes[rel] = mode | 0o700
		return into.MkdirAll(rel, 0o755)
	case tar.TypeReg, tar.TypeGNUSparse:
		f, err := into.OpenFile(rel, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode|0o200)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		return errors.Join(err, f.Close())
	case tar.TypeSymlink:
		target := path.Join(path.Dir(rel), h.Linkname)
		if path.IsAbs(h.Linkname) || !filepath.IsLocal(filepath.FromSlash(target)) {
			return fault.New(fault.Invalid, NameUnsafe, "its archive has at %.200q a link to %.200q, which leaves the directory", e.Path, h.Linkname)
		}
		return into.Symlink(h.Linkname, rel)
	case tar.TypeLink:
		target, ok := below(name, h.Linkname)
		if !ok {
			return fault.New(fault.Invalid, NameUnsafe, "its archive has at %.200q a hard link to %.200q, which leaves the directory", e.Path, h.Linkname)
		}
		return into.Link(target, rel)
	}
	return fault.New(fault.Invalid, NameUnsafe, "its archive has at %.200q a device or pipe", e.Path)
}
