// Package artifact packs files into OCI artifacts and takes them out again: charts, policies, models, reports, whatever is
// no container image. What it writes is what oras writes and reads: one layer for each file, named by an annotation, and a
// directory as an archive that is unpacked when it is pulled.
//
// Packing reads files of the caller's choice. Taking out trusts nothing: names and archives come from somebody else, so
// nothing is written outside of the directory that was given, nothing is written through a link, and a file that was there
// is replaced only by a whole one.
//
// Start reading at [Push] and [Pull].
//
// Spec: OCI image v1.1.1, manifest.md, "Guidelines for Artifact Usage".
package artifact

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/view"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// Reasons of this room's failures.
const (
	NameUnsafe fault.Reason = "NAME_UNSAFE" // a name or archive that would be written outside of the directory
	FileExists fault.Reason = "FILE_EXISTS" // what is there must not be replaced
	PackEmpty  fault.Reason = "PACK_EMPTY"  // an artifact without a type and without files says nothing
)

// Annotations of layers. Title is the image specification's; those of directories are the convention of oras.
const (
	Title         = "org.opencontainers.image.title"
	Created       = "org.opencontainers.image.created"
	unpack        = "io.deis.oras.content.unpack"
	archiveDigest = "io.deis.oras.content.digest"
)

// Media types of files that are given without one.
const (
	FileType      = "application/vnd.oci.image.layer.v1.tar"
	DirectoryType = "application/vnd.oci.image.layer.v1.tar+gzip"
	unknownType   = "application/vnd.unknown.artifact.v1"
)

// File is one file or directory to pack.
type File struct {
	Path        string
	Name        string // under which it is taken out; "" is Path
	MediaType   string // "" is FileType or DirectoryType
	Annotations map[string]string
}

// Pack is an artifact to be.
type Pack struct {
	Type        string // artifact type, a media type; "" is that of an unknown artifact
	Config      []byte // nil is the empty one
	ConfigType  string // media type of Config
	Files       []File
	Annotations map[string]string
	Subject     *oci.Descriptor // what the artifact is about; nil is nothing
	Created     time.Time       // zero is not said, so that the same files make the same artifact
	Work        string          // directory for archives of directories; "" is the system's
}

// manifest is the artifact as it is written, in this order of keys.
type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Config        oci.Descriptor    `json:"config"`
	Layers        []oci.Descriptor  `json:"layers"`
	Subject       *oci.Descriptor   `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// Push packs the files and pushes the artifact under a tag, or by its digest where at is zero. The manifest is written
// last, so nothing refers to files that are not there.
func Push(ctx context.Context, t view.Target, at ref.Reference, p Pack) (oci.Descriptor, error) {
	if p.Type == "" && p.ConfigType == "" {
		if len(p.Files) == 0 {
			return oci.Descriptor{}, fault.New(fault.Invalid, PackEmpty, "an artifact needs files, or at least a type: name files or --artifact-type")
		}
		p.Type = unknownType
	}
	m := manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest, ArtifactType: p.Type, Subject: p.Subject, Annotations: p.Annotations}
	if !p.Created.IsZero() {
		m.Annotations = with(m.Annotations, Created, p.Created.UTC().Format(time.RFC3339))
	}
	names := map[string]bool{}
	for _, f := range p.Files {
		d, err := p.file(ctx, t, f)
		if err != nil {
			return oci.Descriptor{}, err
		}
		if name := d.Annotations[Title]; names[name] {
			return oci.Descriptor{}, fault.New(fault.Invalid, NameUnsafe, "two files are to be called %q; one would replace the other when they are pulled", name)
		} else {
			names[name] = true
		}
		m.Layers = append(m.Layers, d)
	}
	empty := []byte("{}")
	config, kind := p.Config, p.ConfigType
	if config == nil {
		config = empty
	}
	if kind == "" {
		kind = oci.MediaTypeEmpty
	}
	var err error
	if m.Config, err = content(ctx, t, kind, config); err != nil {
		return oci.Descriptor{}, err
	}
	if len(m.Layers) == 0 { // a manifest has at least one
		d, err := content(ctx, t, oci.MediaTypeEmpty, empty)
		if err != nil {
			return oci.Descriptor{}, err
		}
		m.Layers = []oci.Descriptor{d}
	}
	body, err := json.Marshal(m)
	if err != nil {
		return oci.Descriptor{}, fmt.Errorf("artifact: manifest: %w", err)
	}
	if _, err := oci.ParseManifest(m.MediaType, body); err != nil {
		return oci.Descriptor{}, fmt.Errorf("artifact: manifest: %w", err)
	}
	d := oci.Descriptor{MediaType: m.MediaType, Digest: oci.FromBytes(oci.SHA256, body), Size: int64(len(body)), ArtifactType: p.Type}
	return d, t.PutManifest(ctx, at, d, body)
}

func with(m map[string]string, k, v string) map[string]string {
	out := map[string]string{k: v}
	for key, value := range m {
		out[key] = value
	}
	return out
}

// content sends a small blob unless it is there.
func content(ctx context.Context, t view.Target, kind string, body []byte) (oci.Descriptor, error) {
	d := oci.Descriptor{MediaType: kind, Digest: oci.FromBytes(oci.SHA256, body), Size: int64(len(body))}
	has, err := t.HasBlob(ctx, d)
	if err != nil || has {
		return d, err
	}
	_, err = t.PutBlob(ctx, d, nil, view.Bytes(body))
	return d, err
}

// file sends a file, or a directory as an archive.
func (p *Pack) file(ctx context.Context, t view.Target, f File) (oci.Descriptor, error) {
	info, err := os.Stat(f.Path)
	if err != nil {
		return oci.Descriptor{}, fmt.Errorf("artifact: %w", err)
	}
	name := f.Name
	if name == "" {
		name = filepath.ToSlash(f.Path)
	}
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return oci.Descriptor{}, fault.New(fault.Invalid, NameUnsafe, "file %q would be pulled to a place outside of the directory it is pulled into; call it by its last name alone with --strip-dirs", name)
	}
	path, kind, annotations := f.Path, f.MediaType, with(f.Annotations, Title, name)
	switch {
	case info.IsDir():
		packed, plain, err := p.archive(f.Path, name)
		if err != nil {
			return oci.Descriptor{}, err
		}
		defer os.Remove(packed) //nolint:errcheck // a temporary file
		path, annotations = packed, with(with(annotations, unpack, "true"), archiveDigest, plain.String())
		if kind == "" {
			kind = DirectoryType
		}
	case !info.Mode().IsRegular():
		return oci.Descriptor{}, fault.New(fault.Invalid, NameUnsafe, "%s is neither a file nor a directory", f.Path)
	case kind == "":
		kind = FileType
	}
	d, err := view.DescribeFile(path, oci.SHA256)
	if err != nil {
		return oci.Descriptor{}, err
	}
	d.MediaType, d.Annotations = kind, annotations
	has, err := t.HasBlob(ctx, d)
	if err != nil || has {
		return d, err
	}
	_, err = t.PutBlob(ctx, d, nil, view.File(path))
	return d, err
}

// archive packs a directory so that the same files make the same archive: sorted, without owners and times. Links are kept
// as links; what is neither file, directory nor link is refused. The paths in it begin with name, as oras has it.
func (p *Pack) archive(dir, name string) (file string, plain oci.Digest, err error) {
	f, err := os.CreateTemp(p.Work, "artifact-*.tar.gz")
	if err != nil {
		return "", oci.Digest{}, fmt.Errorf("artifact: %w", err)
	}
	z := gzip.NewWriter(f)
	hash := oci.NewHasher(oci.SHA256)
	w := tar.NewWriter(io.MultiWriter(z, hash))
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return addFile(w, dir, name, path, d)
	})
	for _, end := range []func() error{w.Close, z.Close} {
		if err == nil {
			err = end()
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(f.Name())
		return "", oci.Digest{}, fmt.Errorf("artifact: pack %s: %w", dir, err)
	}
	return f.Name(), hash.Digest(), nil
}

func addFile(w *tar.Writer, dir, name, path string, d fs.DirEntry) error {
	rel, err := filepath.Rel(dir, path)
	if err != nil {
		return err
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	h := &tar.Header{Name: filepath.ToSlash(filepath.Join(filepath.FromSlash(name), rel)), Mode: int64(info.Mode().Perm()), Format: tar.FormatPAX}
	switch {
	case info.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
		return w.WriteHeader(h)
	case info.Mode()&fs.ModeSymlink != 0:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = os.Readlink(path); err != nil {
			return err
		}
		return w.WriteHeader(h)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is neither a file, a directory nor a link", path)
	}
	h.Typeflag, h.Size = tar.TypeReg, info.Size()
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return errors.Join(err, f.Close())
}
