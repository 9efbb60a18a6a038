package artifact_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/file"
	"oras.land/oras-go/v2/content/memory"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/artifact"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/image/rootfs"
	"github.com/berth-registry/berth/image/view"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// place keeps content in memory, as oras does, so that both can read what the other wrote.
type place struct {
	store *memory.Store
	last  oci.Descriptor
}

func newPlace() *place { return &place{store: memory.New()} }

func descriptor(d oci.Descriptor) ocispec.Descriptor {
	var out ocispec.Descriptor
	b, _ := json.Marshal(d)
	_ = json.Unmarshal(b, &out)
	return out
}

func (p *place) HasBlob(ctx context.Context, d oci.Descriptor) (bool, error) {
	return p.store.Exists(ctx, descriptor(d))
}

func (p *place) PutBlob(ctx context.Context, d oci.Descriptor, _ []ref.Name, open remote.Open) (remote.Outcome, error) {
	r, err := open(ctx, 0)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	if d.MediaType == "" {
		d.MediaType = "application/octet-stream"
	}
	return remote.Sent, p.store.Push(ctx, descriptor(d), r)
}

func (p *place) PutManifest(ctx context.Context, at ref.Reference, d oci.Descriptor, body []byte) error {
	p.last = d
	if has, _ := p.store.Exists(ctx, descriptor(d)); !has {
		if err := p.store.Push(ctx, descriptor(d), bytes.NewReader(body)); err != nil {
			return err
		}
	}
	return p.store.Tag(ctx, descriptor(d), at.String())
}

func (p *place) Manifest(ctx context.Context, at ref.Reference) (oci.Descriptor, []byte, error) {
	d, err := p.store.Resolve(ctx, at.String())
	if err != nil {
		return oci.Descriptor{}, nil, err
	}
	r, err := p.store.Fetch(ctx, d)
	if err != nil {
		return oci.Descriptor{}, nil, err
	}
	defer r.Close()
	body, err := io.ReadAll(r)
	return oci.Descriptor{MediaType: d.MediaType, Digest: oci.FromBytes(oci.SHA256, body), Size: d.Size}, body, err
}

func (p *place) Blob(ctx context.Context, d oci.Descriptor, _ int64) (io.ReadCloser, error) {
	return p.store.Fetch(ctx, descriptor(d))
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t *testing.T, p string) string {
	t.Helper()
	b, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func open(t *testing.T, p *place, tag string) *view.Node {
	t.Helper()
	n, err := view.Open(t.Context(), p, ref.Reference{Tag: tag})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestThereAndBack(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"a.txt": "a", "d/b.txt": "b", "d/e/c.txt": "c"})
	if err := os.Symlink("b.txt", filepath.Join(dir, "d", "link")); err != nil {
		t.Fatal(err)
	}
	p := newPlace()
	pack := artifact.Pack{Type: "application/vnd.test", Annotations: map[string]string{"k": "v"}, Files: []artifact.File{
		{Path: filepath.Join(dir, "a.txt"), Name: "sub/a.txt", MediaType: "text/plain"}, {Path: filepath.Join(dir, "d"), Name: "d"}}}
	first, err := artifact.Push(t.Context(), p, ref.Reference{Tag: "v1"}, pack)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := artifact.Push(t.Context(), p, ref.Reference{Tag: "v2"}, pack); err != nil || again.Digest != first.Digest {
		t.Errorf("%v; the same files made %s, then %s", err, first.Digest, again.Digest)
	}
	out := filepath.Join(t.TempDir(), "out")
	files, err := artifact.Pull(t.Context(), open(t, p, "v1"), out, artifact.PullOptions{})
	if err != nil || len(files) != 2 {
		t.Fatalf("%+v, %v", files, err)
	}
	if read(t, filepath.Join(out, "sub/a.txt")) != "a" || read(t, filepath.Join(out, "d/e/c.txt")) != "c" || read(t, filepath.Join(out, "d/link")) != "b" {
		t.Error("the files are not what they were")
	}
	// oras reads it, with the directory unpacked.
	by := t.TempDir()
	store, err := file.New(by)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := oras.Copy(t.Context(), p.store, "v1", store, "v1", oras.DefaultCopyOptions); err != nil {
		t.Fatal(err)
	}
	if read(t, filepath.Join(by, "sub/a.txt")) != "a" || read(t, filepath.Join(by, "d/e/c.txt")) != "c" {
		t.Error("oras found other files")
	}
}

// What oras packed, a directory with it, is taken out.
func TestOrasPacked(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"a.txt": "a", "d/b.txt": "b"})
	store, err := file.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	var layers []ocispec.Descriptor
	for _, name := range []string{"a.txt", "d"} {
		d, err := store.Add(t.Context(), name, "application/vnd.test.file", "")
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, d)
	}
	m, err := oras.PackManifest(t.Context(), store, oras.PackManifestVersion1_1, "application/vnd.test", oras.PackManifestOptions{Layers: layers})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Tag(t.Context(), m, "v1"); err != nil {
		t.Fatal(err)
	}
	p := newPlace()
	if _, err := oras.Copy(t.Context(), store, "v1", p.store, "v1", oras.DefaultCopyOptions); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	if _, err := artifact.Pull(t.Context(), open(t, p, "v1"), out, artifact.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if read(t, filepath.Join(out, "a.txt")) != "a" || read(t, filepath.Join(out, "d/b.txt")) != "b" {
		t.Error("the files are not what they were")
	}
}

// hostile pushes one layer with a title as somebody would who means harm.
func hostile(t *testing.T, title string, body []byte, directory bool) *place {
	t.Helper()
	p := newPlace()
	d := oci.Descriptor{MediaType: "application/x", Digest: oci.FromBytes(oci.SHA256, body), Size: int64(len(body)), Annotations: map[string]string{artifact.Title: title}}
	if directory {
		d.Annotations["io.deis.oras.content.unpack"] = "true"
	}
	config := []byte("{}")
	c := oci.Descriptor{MediaType: oci.MediaTypeEmpty, Digest: oci.FromBytes(oci.SHA256, config), Size: 2}
	for blob, desc := range map[string]oci.Descriptor{string(body): d, "{}": c} {
		if _, err := p.PutBlob(t.Context(), desc, nil, view.Bytes([]byte(blob))); err != nil {
			t.Fatal(err)
		}
	}
	m, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeManifest, "artifactType": "x/y", "config": c, "layers": []any{d}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.PutManifest(t.Context(), ref.Reference{Tag: "v1"}, oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: oci.FromBytes(oci.SHA256, m), Size: int64(len(m))}, m); err != nil {
		t.Fatal(err)
	}
	return p
}

func archive(t *testing.T, headers ...*tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, h := range headers {
		h.Mode = 0o644
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			_, _ = w.Write(make([]byte, h.Size))
		}
	}
	_, _ = w.Close(), z.Close()
	return b.Bytes()
}

func TestHostile(t *testing.T) {
	link := func(name, to string, kind byte) *tar.Header {
		return &tar.Header{Name: name, Linkname: to, Typeflag: kind}
	}
	for name, c := range map[string]struct {
		title   string
		headers []*tar.Header
		limits  rootfs.Limits
		reason  fault.Reason
	}{
		"title climbs":          {title: "../evil", reason: artifact.NameUnsafe},
		"title absolute":        {title: "/etc/evil", reason: artifact.NameUnsafe},
		"title is the place":    {title: "a/..", reason: artifact.NameUnsafe},
		"title of another kind": {title: `..\evil`, reason: artifact.NameUnsafe},
		"archive climbs":        {title: "d", headers: []*tar.Header{{Name: "d/../../evil"}}, reason: rootfs.LayerUnsafe},
		"archive beside":        {title: "d", headers: []*tar.Header{{Name: "evil"}}, reason: artifact.NameUnsafe},
		"link out":              {title: "d", headers: []*tar.Header{link("d/l", "../../evil", tar.TypeSymlink)}, reason: artifact.NameUnsafe},
		"link absolute":         {title: "d", headers: []*tar.Header{link("d/l", "/etc", tar.TypeSymlink)}, reason: artifact.NameUnsafe},
		"hard link out":         {title: "d", headers: []*tar.Header{link("d/l", "victim", tar.TypeLink)}, reason: artifact.NameUnsafe},
		"hard link climbs":      {title: "d", headers: []*tar.Header{link("d/l", "../victim", tar.TypeLink)}, reason: rootfs.LayerUnsafe},
		"device":                {title: "d", headers: []*tar.Header{{Name: "d/dev", Typeflag: tar.TypeChar}}, reason: artifact.NameUnsafe},
		"bomb":                  {title: "d", headers: []*tar.Header{{Name: "d/zeros", Size: 8 << 20}}, limits: rootfs.Limits{Free: 1 << 20, Ratio: 100}, reason: rootfs.LayerTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			body := []byte("content")
			if c.headers != nil {
				body = archive(t, c.headers...)
			}
			p := hostile(t, c.title, body, c.headers != nil)
			around := t.TempDir()
			write(t, around, map[string]string{"victim": "good", "out/d/old": "good"})
			_, err := artifact.Pull(t.Context(), open(t, p, "v1"), filepath.Join(around, "out"), artifact.PullOptions{Limits: c.limits})
			if !fault.Has(err, c.reason) {
				t.Errorf("%v; want %s", err, c.reason)
			}
			var left []string
			_ = filepath.WalkDir(around, func(path string, d os.DirEntry, _ error) error {
				if !d.IsDir() {
					rel, _ := filepath.Rel(around, path)
					left = append(left, rel)
				}
				return nil
			})
			if got := strings.Join(left, " "); got != "out/d/old victim" || read(t, filepath.Join(around, "victim")) != "good" {
				t.Errorf("files are %s", got)
			}
		})
	}
}

// A link that is already there does not lead a pull elsewhere, and a blob of other bytes replaces nothing.
func TestPullKeepsWhatIsThere(t *testing.T) {
	around := t.TempDir()
	write(t, around, map[string]string{"victim": "good", "out/a": "good"})
	if err := os.Symlink("..", filepath.Join(around, "out", "up")); err != nil {
		t.Fatal(err)
	}
	p := hostile(t, "up/victim", []byte("bad"), false)
	if _, err := artifact.Pull(t.Context(), open(t, p, "v1"), filepath.Join(around, "out"), artifact.PullOptions{}); err == nil {
		t.Error("written through a link")
	}
	if read(t, filepath.Join(around, "victim")) != "good" {
		t.Error("what the link leads to was replaced")
	}
	n := open(t, hostile(t, "a", []byte("new"), false), "v1")
	if _, err := artifact.Pull(t.Context(), n, filepath.Join(around, "out"), artifact.PullOptions{Keep: true}); !fault.Has(err, artifact.FileExists) {
		t.Errorf("keep: %v", err)
	}
	n.Manifest.Layers[0].Size++ // the place has fewer bytes than the manifest says
	if _, err := artifact.Pull(t.Context(), n, filepath.Join(around, "out"), artifact.PullOptions{}); err == nil {
		t.Error("a file of another size was taken")
	}
	if read(t, filepath.Join(around, "out", "a")) != "good" {
		t.Error("a good file was replaced by one that is not whole")
	}
}
