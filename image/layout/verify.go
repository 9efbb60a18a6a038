package layout

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/internal/inflate"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// The transports dir and docker-archive are read by another program's code, whose words about wrong bytes do not say where they are.
// These find it out afterwards. Both return nil when they find nothing wrong.

// VerifyDir compares the files of a folder (transport dir) with what its manifest says of them.
func VerifyDir(ctx context.Context, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("layout: open %s: %w", dir, err)
	}
	defer root.Close()
	return verifyFolder(ctx, root, dir, "manifest.json")
}

func verifyFolder(ctx context.Context, root *os.Root, dir, name string) error {
	body, err := rootFile(root, name, MaxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return spoiled("the folder %s lacks %s", dir, name)
	}
	if err != nil {
		return err
	}
	m, err := oci.ParseManifest("", body)
	if err != nil {
		m, err = oci.ParseManifest(oci.MediaTypeManifest, body) // older tools leave out what it is
	}
	if err != nil {
		return nil // of a form that is not known here
	}
	for _, k := range m.Manifests {
		child := fileOf(k.Digest) + ".manifest.json"
		if _, err := root.Lstat(child); err != nil {
			continue // a folder may have some of an index
		}
		if err := verifyFile(ctx, root, dir, child, k); err != nil {
			return err
		}
		if err := verifyFolder(ctx, root, dir, child); err != nil {
			return err
		}
	}
	blobs := m.Layers
	if m.Config != nil {
		blobs = append(blobs, *m.Config)
	}
	for _, b := range blobs {
		if err := verifyFile(ctx, root, dir, fileOf(b.Digest), b); err != nil && !b.External() {
			return err
		}
	}
	return nil
}

// fileOf is what the transport dir calls the file of a blob.
func fileOf(d oci.Digest) string {
	if d.Algorithm() == oci.SHA256 {
		return d.Hex()
	}
	return string(d.Algorithm()) + "-" + d.Hex()
}

func rootFile(root *os.Root, name string, most int64) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}

func verifyFile(ctx context.Context, root *os.Root, dir, name string, d oci.Descriptor) error {
	at := filepath.Join(dir, name)
	f, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.NotFound, fault.BlobUnknown, "the folder %s lacks the blob %s", dir, d.Digest).Because(ErrSpoiled)
	}
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it is only read
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	if info.Size() != d.Size {
		return spoiled("the file %s has %d bytes; its descriptor says %d", at, info.Size(), d.Size)
	}
	h := oci.NewHasher(d.Digest.Algorithm())
	if err := drain(ctx, h, f); err != nil {
		return err
	}
	if found := h.Digest(); found != d.Digest {
		return spoiled("the file %s is damaged: its bytes have the digest %s, and should have %s", at, found, d.Digest)
	}
	return nil
}

// drain reads all of r into w.
func drain(ctx context.Context, w io.Writer, r io.Reader) error {
	buf := make([]byte, buffer)
	for ctx.Err() == nil {
		n, err := r.Read(buf)
		if _, werr := w.Write(buf[:n]); werr != nil {
			return werr
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// maxSavedList is more than the list of images in an archive of docker save has, and maxSavedConfig than a configuration.
const (
	maxSavedList   = 1 << 20
	maxSavedConfig = 16 << 20
)

// saved is an image in an archive of docker save.
type saved struct {
	Config string
	Layers []string
}

// VerifySaved compares the layers of an archive of docker save with what the configurations of its images say of them. A layer that is a link to
// another one, as older archives have it, is not compared.
func VerifySaved(ctx context.Context, name string, l Limits) error {
	var list []saved
	err := eachOf(ctx, name, l, func(file string, _ *tar.Header, r io.Reader) error {
		if file != "manifest.json" {
			return nil
		}
		body, err := io.ReadAll(io.LimitReader(r, maxSavedList))
		if err == nil && json.Unmarshal(body, &list) != nil {
			err = spoiled("manifest.json of the archive %s is no list of images", name)
		}
		return err
	})
	if err != nil {
		return err
	}
	wanted := map[string]bool{} // by name; true are layers
	for _, image := range list {
		wanted[path.Clean(image.Config)] = false
		for _, layer := range image.Layers {
			wanted[path.Clean(layer)] = true
		}
	}
	configs, layers := map[string][]byte{}, map[string]oci.Digest{}
	err = eachOf(ctx, name, l, func(file string, h *tar.Header, r io.Reader) error {
		layer, ok := wanted[file]
		if !ok {
			return nil
		}
		if h.Typeflag != tar.TypeReg {
			layers[file] = oci.Digest{}
			return nil
		}
		if !layer {
			body, err := io.ReadAll(io.LimitReader(r, maxSavedConfig))
			configs[file] = body
			return err
		}
		d, err := unpackedDigest(ctx, name, file, r)
		layers[file] = d
		return err
	})
	if err != nil {
		return err
	}
	for _, image := range list {
		if err := image.verify(name, configs, layers); err != nil {
			return err
		}
	}
	return nil
}

func (s saved) verify(archive string, configs map[string][]byte, layers map[string]oci.Digest) error {
	config, ok := configs[path.Clean(s.Config)]
	if !ok {
		return spoiled("the archive %s lacks the configuration %s that its manifest.json names", archive, plainName(s.Config))
	}
	base := strings.TrimSuffix(path.Base(s.Config), ".json")
	if want, err := oci.ParseDigest("sha256:" + base); err == nil {
		if found := oci.FromBytes(oci.SHA256, config); found != want {
			return spoiled("the configuration %s in the archive %s is damaged: its bytes have the digest %s", plainName(s.Config), archive, found)
		}
	}
	var doc struct {
		RootFS struct {
			DiffIDs []oci.Digest `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(config, &doc); err != nil {
		return spoiled("the configuration %s in the archive %s is not valid JSON", plainName(s.Config), archive)
	}
	for i, layer := range s.Layers {
		found, ok := layers[path.Clean(layer)]
		switch {
		case !ok:
			return spoiled("the archive %s lacks the layer %s that its manifest.json names", archive, plainName(layer))
		case found.IsZero():
		case i < len(doc.RootFS.DiffIDs) && found != doc.RootFS.DiffIDs[i]:
			return spoiled("layer %d (%s) in the archive %s is damaged: its bytes have the digest %s, and the configuration says %s", i+1, plainName(layer), archive, found, doc.RootFS.DiffIDs[i])
		}
	}
	return nil
}

// unpackedDigest is the digest of a layer as it is when it is not packed.
func unpackedDigest(ctx context.Context, archive, layer string, r io.Reader) (oci.Digest, error) {
	b := bufio.NewReader(r)
	magic, _ := b.Peek(6)
	h := oci.NewHasher(oci.SHA256)
	from := io.Reader(b)
	if how := packing(magic); how != nil {
		z, err := how(b)
		if err != nil {
			return oci.Digest{}, spoiled("layer %s in the archive %s cannot be unpacked: %s", plainName(layer), archive, err)
		}
		defer z.Close() //nolint:errcheck // it is only read
		from = io.LimitReader(z, inflate.Defaults().Bytes)
	}
	if err := drain(ctx, h, from); err != nil {
		if reasoned(err) {
			return oci.Digest{}, err
		}
		return oci.Digest{}, spoiled("layer %s in the archive %s is damaged: %s", plainName(layer), archive, err)
	}
	return h.Digest(), nil
}

// eachOf calls f for every file and link of an archive, which may be packed and was looked at before.
func eachOf(ctx context.Context, name string, l Limits, f func(file string, h *tar.Header, r io.Reader) error) error {
	file, err := openFile(name)
	if err != nil {
		return err
	}
	defer file.Close()
	u, err := unpack(ctx, name, file, l)
	if err != nil {
		return err
	}
	r := io.Reader(file)
	if u != nil {
		defer u.Close() //nolint:errcheck // it was only read
		r = u
	}
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = f(path.Clean(h.Name), h, t)
		}
		if err != nil && !reasoned(err) {
			err = spoiled("archive %s is damaged or cut off: %s", name, err)
		}
		if err != nil {
			return err
		}
	}
}

// readable is a Dir or an Archive.
type readable interface {
	Manifest(ctx context.Context, at ref.Reference) (oci.Descriptor, []byte, error)
	Blob(ctx context.Context, d oci.Descriptor, from int64) (io.ReadCloser, error)
}

// VerifyImage compares all blobs that an image in a layout or archive needs with what its descriptors say.
func VerifyImage(ctx context.Context, from readable, at ref.Reference) error {
	d, body, err := from.Manifest(ctx, at)
	if err != nil {
		return err
	}
	m, err := oci.ParseManifest(d.MediaType, body)
	if err != nil {
		return nil // of a form that is not known here
	}
	for _, k := range m.Manifests {
		if err := VerifyImage(ctx, from, ref.Reference{Digest: k.Digest}); err != nil && !fault.Is(err, fault.NotFound) { // it may have some of an index
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
		rc, err := from.Blob(ctx, b, 0)
		if err == nil {
			err = errors.Join(drain(ctx, io.Discard, rc), rc.Close())
		}
		if err != nil {
			return err
		}
	}
	return nil
}
