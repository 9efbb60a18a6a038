//go:build unix

package layout_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/layout"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// image is the content of a small layout: an image v1 of one layer, by the names of its files.
type image struct {
	files           map[string][]byte
	layer, manifest oci.Descriptor
}

func newImage(layer string) image {
	m := image{files: map[string][]byte{}}
	put := func(mediaType string, body []byte) oci.Descriptor {
		d := oci.Descriptor{MediaType: mediaType, Digest: oci.FromBytes(oci.SHA256, body), Size: int64(len(body))}
		m.files["blobs/sha256/"+d.Digest.Hex()] = body
		return d
	}
	config := put("application/vnd.oci.image.config.v1+json", []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`))
	m.layer = put("application/vnd.oci.image.layer.v1.tar", []byte(layer))
	m.manifest = put(oci.MediaTypeManifest, encode(map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeManifest, "config": config, "layers": []any{m.layer}}))
	m.files["index.json"] = m.index(m.manifest)
	m.files["oci-layout"] = []byte(`{"imageLayoutVersion":"1.0.0"}`)
	return m
}

func (m image) index(d oci.Descriptor) []byte {
	d.Annotations = map[string]string{layout.AnnotationName: "v1"}
	return encode(map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeIndex, "manifests": []any{d}})
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// dir writes the image as a folder.
func (m image) dir(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "image")
	for name, body := range m.files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func file(name string, body []byte) entry { return entry{tar.Header{Name: name}, body} }

// entry is an entry of an archive.
type entry struct {
	h    tar.Header
	body []byte
}

// entries are the image as an archive has it.
func (m image) entries() []entry {
	var out []entry
	for name, body := range m.files {
		out = append(out, file(name, body))
	}
	return out
}

func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		e.h.Mode = 0o644
		if e.h.Typeflag == 0 {
			e.h.Typeflag, e.h.Size = tar.TypeReg, int64(len(e.body))
		}
		if err := w.WriteHeader(&e.h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func write(t testing.TB, body []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(name, body, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// place is what a Dir and an Archive have in common.
type place interface {
	Manifest(ctx context.Context, at ref.Reference) (oci.Descriptor, []byte, error)
	Blob(ctx context.Context, d oci.Descriptor, from int64) (io.ReadCloser, error)
	HasBlob(ctx context.Context, d oci.Descriptor) (bool, error)
	Tags(ctx context.Context) ([]string, error)
	Close() error
}

var v1 = ref.Reference{Tag: "v1"}

// use reads all of an image.
func use(t testing.TB, p place, openErr error, m image) error {
	t.Helper()
	if openErr != nil {
		return openErr
	}
	defer p.Close()
	d, body, err := p.Manifest(t.Context(), v1)
	if err != nil {
		return err
	}
	if d.Digest != m.manifest.Digest || !bytes.Equal(body, m.files["blobs/sha256/"+d.Digest.Hex()]) {
		t.Fatalf("another manifest: %s, %q", d.Digest, body)
	}
	rc, err := p.Blob(t.Context(), m.layer, 0)
	if err != nil {
		return err
	}
	defer rc.Close()
	got, err := io.ReadAll(rc)
	if err != nil {
		if int64(len(got)) >= m.layer.Size {
			t.Errorf("all %d bytes of a blob came, and then %v", len(got), err)
		}
		return err
	}
	if oci.FromBytes(oci.SHA256, got) != m.layer.Digest {
		t.Fatalf("other bytes of a blob, without an error: %d of them", len(got))
	}
	return nil
}

func open(t testing.TB, name string) (place, error) {
	a, err := layout.OpenPacked(t.Context(), name, t.TempDir(), layout.Limits{})
	if err != nil {
		return nil, err
	}
	return a, nil
}

func gzipped(b []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, _ = w.Write(b)
	_ = w.Close()
	return buf.Bytes()
}

func zstandard(b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return w.EncodeAll(b, nil)
}

// A good image is read from a folder, from an archive, and from a packed archive.
func TestGood(t *testing.T) {
	m := newImage("layer")
	d, err := layout.OpenDir(m.dir(t))
	if err := use(t, d, err, m); err != nil {
		t.Errorf("folder: %v", err)
	}
	plain := pack(t, m.entries()...)
	for name, body := range map[string][]byte{
		"plain": plain, "gzip": gzipped(plain), "zstd": zstandard(plain), "two gzip streams": append(gzipped(plain[:700]), gzipped(plain[700:])...),
		"with ./": pack(t, append([]entry{{h: tar.Header{Name: "./", Typeflag: tar.TypeDir}}, {h: tar.Header{Name: "./blobs/", Typeflag: tar.TypeDir}}}, prefixed("./", m)...)...),
		"links that stand alone": pack(t, append(m.entries(), entry{h: tar.Header{Name: "latest", Typeflag: tar.TypeSymlink, Linkname: "../../etc/passwd"}},
			entry{h: tar.Header{Name: "dev", Typeflag: tar.TypeChar}})...),
		"a blob twice": pack(t, append(m.entries(), file("blobs/sha256/"+m.layer.Digest.Hex(), []byte("layer")))...),
	} {
		p, err := open(t, write(t, body))
		if err := use(t, p, err, m); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func prefixed(prefix string, m image) []entry {
	out := m.entries()
	for i := range out {
		out[i].h.Name = prefix + out[i].h.Name
	}
	return out
}

// without is the image without some files.
func (m image) without(names ...string) image {
	out := image{files: map[string][]byte{}, layer: m.layer, manifest: m.manifest}
	for k, v := range m.files {
		out.files[k] = v
	}
	for _, n := range names {
		delete(out.files, n)
	}
	return out
}

// with is the image with one file changed.
func (m image) with(name string, body []byte) image {
	out := m.without()
	out.files[name] = body
	return out
}

// What an archive of a stranger may be: each is refused with what is wrong about it, and nothing outside of it is read.
func TestHostileArchives(t *testing.T) {
	m := newImage("layer")
	blob, doc := "blobs/sha256/"+m.layer.Digest.Hex(), "blobs/sha256/"+m.manifest.Digest.Hex()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("layer"), 0o600); err != nil { // with the digest that is asked for
		t.Fatal(err)
	}
	link := func(kind byte, name, to string) entry {
		return entry{h: tar.Header{Name: name, Typeflag: kind, Linkname: to}}
	}
	sparse := entry{tar.Header{Name: "index.json", Format: tar.FormatPAX}, nil}
	for name, tc := range map[string]struct {
		body   []byte
		reason fault.Reason
		text   string
	}{
		"empty":                       {nil, layout.ReasonLayout, "not an OCI image layout"},
		"no archive":                  {[]byte(strings.Repeat("no archive", 200)), layout.ReasonLayout, "damaged or cut off"},
		"no layout":                   {pack(t, file("etc/passwd", []byte("x"))), layout.ReasonLayout, "not an OCI image layout"},
		"absolute names":              {pack(t, prefixed("/", m)...), layout.ReasonLayout, "not an OCI image layout"},
		"names that lead out":         {pack(t, prefixed("../", m)...), layout.ReasonLayout, "not an OCI image layout"},
		"a blob by a symlink":         {pack(t, append(m.without(blob).entries(), link(tar.TypeSymlink, blob, secret))...), fault.BlobUnknown, "lacks the blob"},
		"a blob by a hard link":       {pack(t, append(m.without(blob).entries(), link(tar.TypeLink, blob, secret))...), fault.BlobUnknown, "lacks the blob"},
		"the index by a symlink":      {pack(t, append(m.without("index.json").entries(), link(tar.TypeSymlink, "index.json", secret))...), layout.ReasonLayout, "no index.json"},
		"the index twice":             {pack(t, append(m.entries(), file("index.json", m.index(m.layer)))...), layout.ReasonLayout, "twice"},
		"the index under two names":   {pack(t, append(m.entries(), file("blobs/../index.json", m.index(m.layer)))...), layout.ReasonLayout, "twice"},
		"the index and a link":        {pack(t, append(m.entries(), link(tar.TypeSymlink, "index.json", secret))...), layout.ReasonLayout, "twice"},
		"a link and the index":        {pack(t, append([]entry{link(tar.TypeLink, "index.json", secret)}, m.entries()...)...), layout.ReasonLayout, "twice"},
		"a blob and a folder":         {pack(t, append(m.entries(), entry{h: tar.Header{Name: blob + "/", Typeflag: tar.TypeDir}})...), layout.ReasonLayout, "twice"},
		"a long name":                 {pack(t, append(m.entries(), file(strings.Repeat("a/", 4000)+"a", nil))...), layout.ReasonLayout, "a name of"},
		"no version":                  {pack(t, m.without("oci-layout").entries()...), layout.ReasonLayout, "no oci-layout"},
		"another version":             {pack(t, m.with("oci-layout", []byte(`{"imageLayoutVersion":"9"}`)).entries()...), layout.ReasonLayout, "version"},
		"a large version":             {pack(t, m.with("oci-layout", bytes.Repeat([]byte(" "), 4096)).entries()...), layout.ReasonLayout, "oci-layout"},
		"an index that is none":       {pack(t, m.with("index.json", []byte("[]")).entries()...), layout.ReasonLayout, "index.json"},
		"a deep index":                {pack(t, m.with("index.json", deep()).entries()...), layout.ReasonLayout, "index.json"},
		"an index with a path":        {pack(t, m.with("index.json", bytes.ReplaceAll(m.files["index.json"], []byte(m.manifest.Digest.Hex()), []byte("../../../../etc/passwd"))).entries()...), layout.ReasonLayout, "index.json"},
		"an index with too much":      {pack(t, m.with("index.json", many()).entries()...), layout.ReasonLayout, "index.json"},
		"keys twice":                  {pack(t, m.with("index.json", []byte(`{"schemaVersion":2,"manifests":[],"manifests":[]}`)).entries()...), layout.ReasonLayout, "index.json"},
		"a changed manifest":          {pack(t, m.with(doc, []byte(`{"schemaVersion":2}`)).entries()...), layout.ReasonLayout, "its bytes have the digest"},
		"no manifest":                 {pack(t, m.without(doc).entries()...), fault.ManifestUnknown, "lacks the manifest"},
		"a changed blob":              {pack(t, m.with(blob, []byte("LAYER")).entries()...), layout.ReasonLayout, "damaged"},
		"a blob of another size":      {pack(t, m.with(blob, []byte("layers")).entries()...), layout.ReasonLayout, "its descriptor says"},
		"a manifest beyond the bound": {pack(t, m.with(doc, bytes.Repeat([]byte(" "), layout.MaxManifest+1)).entries()...), layout.ReasonLayout, "larger than"},
		"xz":                          {[]byte("\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4\x46"), layout.ReasonCompressed, "xz"},
		"cut gzip":                    {gzipped(pack(t, m.entries()...))[:300], layout.ReasonLayout, "cut off"},
		"gzip of no archive":          {gzipped([]byte(strings.Repeat("no archive", 200))), layout.ReasonLayout, "damaged or cut off"},
		"broken gzip":                 {[]byte("\x1f\x8b broken"), layout.ReasonLayout, "unpacked"},
		"broken zstd":                 {[]byte("\x28\xb5\x2f\xfd broken, and long enough"), layout.ReasonLayout, "cut off"},
		"a zstd window of 2 GiB":      {append([]byte("\x28\xb5\x2f\xfd\x00\xa8"), make([]byte, 64)...), layout.ReasonLayout, "cut off"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := open(t, write(t, tc.body))
			err = use(t, p, err, m)
			if !fault.Has(err, tc.reason) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("%v; want %s: %s", err, tc.reason, tc.text)
			}
		})
	}
	// The three ways of tar to say that a file is larger than it is. A terabyte takes a block of the archive.
	for name, body := range map[string][]byte{
		"old GNU": oldSparse(t, 1<<40), "PAX 0.1": sparsePAX(t, sparse, map[string]string{"GNU.sparse.size": "1099511627776", "GNU.sparse.numblocks": "1", "GNU.sparse.map": "1099511627776,0"}),
		"PAX 1.0": sparsePAX(t, sparse, map[string]string{"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "index.json", "GNU.sparse.realsize": "1099511627776"}),
	} {
		t.Run("sparse, "+name, func(t *testing.T) {
			file := write(t, body)
			if _, err := open(t, file); !fault.Has(err, layout.ReasonLayout) {
				t.Errorf("%v", err)
			}
			if err := layout.LookTar(t.Context(), file, layout.Limits{}); !fault.Has(err, layout.ReasonLayout) {
				t.Errorf("look: %v", err)
			}
		})
	}
}

// deep is JSON in JSON in JSON.
func deep() []byte {
	n := 1 << 20
	return []byte(`{"schemaVersion":2,"manifests":` + strings.Repeat("[", n) + strings.Repeat("]", n) + "}")
}

func many() []byte {
	one := `{"mediaType":"` + oci.MediaTypeManifest + `","digest":"sha256:` + strings.Repeat("0", 64) + `","size":1},`
	return []byte(`{"schemaVersion":2,"manifests":[` + strings.TrimSuffix(strings.Repeat(one, 20_000), ",") + "]}")
}

// oldSparse is a file in the form of GNU tar before PAX, without content.
func oldSparse(t testing.TB, size int64) []byte {
	t.Helper()
	b := pack(t, file("index.json", nil))
	b[156] = tar.TypeGNUSparse
	copy(b[257:265], "ustar  \x00")
	// One hole: offset and length of no bytes at the end, and the real size, in base 256.
	big := func(at int, n int64) {
		b[at] = 0x80
		binary.BigEndian.PutUint64(b[at+4:], uint64(n)) //nolint:gosec // a size
	}
	big(386, size)
	big(398, 0)
	big(483, size)
	return checksum(b)
}

// checksum writes the sum of the first header.
func checksum(b []byte) []byte {
	copy(b[148:156], "        ")
	sum := 0
	for _, c := range b[:512] {
		sum += int(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// sparsePAX writes an entry whose PAX records are those that archive/tar does not let through: it refuses to write sparse files.
func sparsePAX(t testing.TB, e entry, records map[string]string) []byte {
	t.Helper()
	var text strings.Builder
	for k, v := range records {
		n := len(k) + len(v) + 3
		n += len(fmt.Sprint(n + len(fmt.Sprint(n))))
		fmt.Fprintf(&text, "%d %s=%s\n", n, k, v)
	}
	b := pack(t, file("PaxHeaders.0/index.json", []byte(text.String())))
	b[156] = tar.TypeXHeader
	copy(b[257:265], "ustar\x0000")
	b = checksum(b)
	return append(b[:len(b)-1024], pack(t, e, file("map", []byte("1\n1099511627776\n0\n")))...)
}

// A folder of a stranger: links that lead out of it and what is no file are not followed, whatever digest is behind them.
func TestHostileFolders(t *testing.T) {
	m := newImage("layer")
	blob, doc := "blobs/sha256/"+m.layer.Digest.Hex(), "blobs/sha256/"+m.manifest.Digest.Hex()
	elsewhere := m.dir(t)
	replace := func(name string, by func(path string) error) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := errors.Join(os.RemoveAll(filepath.Join(dir, name)), by(filepath.Join(dir, name))); err != nil {
				t.Fatal(err)
			}
		}
	}
	link := func(to string) func(string) error { return func(path string) error { return os.Symlink(to, path) } }
	content := func(body []byte) func(string) error {
		return func(path string) error { return os.WriteFile(path, body, 0o644) }
	}
	pipe := func(path string) error { return syscall.Mkfifo(path, 0o644) }
	for name, tc := range map[string]struct {
		change func(*testing.T, string)
		reason fault.Reason
		text   string
	}{
		"a blob by an absolute link":  {replace(blob, link(filepath.Join(elsewhere, blob))), layout.ReasonLayout, "leads out"},
		"the manifest by a link":      {replace(doc, link(filepath.Join(elsewhere, doc))), layout.ReasonLayout, "leads out"},
		"the index by a link":         {replace("index.json", link(filepath.Join(elsewhere, "index.json"))), layout.ReasonLayout, "leads out"},
		"the version by a link":       {replace("oci-layout", link(filepath.Join(elsewhere, "oci-layout"))), layout.ReasonLayout, "leads out"},
		"all blobs by a link":         {replace("blobs", link(filepath.Join(elsewhere, "blobs"))), layout.ReasonLayout, "leads out"},
		"a link by steps":             {replace(blob, link("../../../../../../../../etc/passwd")), layout.ReasonLayout, "leads out"},
		"a link to itself":            {replace(blob, link(filepath.Base(blob))), layout.ReasonLayout, "leads out"},
		"a blob that is a pipe":       {replace(blob, pipe), layout.ReasonLayout, "not a regular file"},
		"an index that is a pipe":     {replace("index.json", pipe), layout.ReasonLayout, "not a regular file"},
		"a blob that is a folder":     {replace(blob, func(p string) error { return os.Mkdir(p, 0o755) }), layout.ReasonLayout, "not a regular file"},
		"a huge index":                {replace("index.json", func(p string) error { return errors.Join(content(nil)(p), os.Truncate(p, 1<<40)) }), layout.ReasonLayout, "larger than"},
		"a huge manifest":             {replace(doc, func(p string) error { return errors.Join(content(nil)(p), os.Truncate(p, 1<<40)) }), layout.ReasonLayout, "larger than"},
		"a deep index":                {replace("index.json", content(deep())), layout.ReasonLayout, "index.json"},
		"an index with a path":        {replace("index.json", content(bytes.ReplaceAll(m.files["index.json"], []byte(m.manifest.Digest.Hex()), []byte("../../x")))), layout.ReasonLayout, "index.json"},
		"no index":                    {replace("index.json", func(string) error { return nil }), layout.ReasonLayout, "no index.json"},
		"a changed blob":              {replace(blob, content([]byte("LAYER"))), layout.ReasonLayout, "damaged"},
		"a cut blob":                  {replace(blob, content([]byte("lay"))), layout.ReasonLayout, "its descriptor says"},
		"a manifest of another bytes": {replace(doc, content([]byte("{}"))), layout.ReasonLayout, "its bytes have the digest"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := m.dir(t)
			tc.change(t, dir)
			d, err := layout.OpenDir(dir)
			if err = use(t, d, err, m); !fault.Has(err, tc.reason) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("%v; want %s: %s", err, tc.reason, tc.text)
			}
		})
	}
	// A link that stays inside is one's own affair.
	dir := m.dir(t)
	if err := errors.Join(os.Rename(filepath.Join(dir, "blobs"), filepath.Join(dir, "content")), os.Symlink("content", filepath.Join(dir, "blobs"))); err != nil {
		t.Fatal(err)
	}
	d, err := layout.OpenDir(dir)
	if err := use(t, d, err, m); err != nil {
		t.Errorf("a link that stays inside: %v", err)
	}
	if _, err := layout.OpenArchive(filepath.Join(dir, "index.json", "x")); err == nil {
		t.Error("an archive below a file")
	}
	fifo := filepath.Join(t.TempDir(), "pipe")
	if err := pipe(fifo); err != nil {
		t.Fatal(err)
	}
	if _, err := layout.OpenArchive(fifo); !fault.Has(err, layout.ReasonLayout) {
		t.Errorf("an archive that is a pipe: %v", err)
	}
	if err := layout.LookTar(t.Context(), fifo, layout.Limits{}); !fault.Has(err, layout.ReasonLayout) {
		t.Errorf("look at a pipe: %v", err)
	}
}

// However an archive is cut, that is found: when it is opened, or when what is missing is read.
func TestCutArchives(t *testing.T) {
	m := newImage(strings.Repeat("layer ", 2000))
	whole := pack(t, m.entries()...)
	for n := 0; n <= len(whole)-1024-512; n += 256 { // the padding of the last file means nothing
		p, err := open(t, write(t, whole[:n]))
		if err := use(t, p, err, m); err == nil {
			t.Errorf("cut off after %d of %d bytes, and nobody noticed", n, len(whole))
		}
	}
	packed := gzipped(whole)
	for n := 0; n < len(packed); n += 11 {
		p, err := open(t, write(t, packed[:n]))
		if err := use(t, p, err, m); err == nil {
			t.Errorf("packed, cut off after %d of %d bytes, and nobody noticed", n, len(packed))
		}
	}
}

// endless is a tar file with one entry of as many zeros as one likes, of which the archive says that it has n.
func endless(t testing.TB, n int64, name string) io.Reader {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: name, Size: n, Mode: 0o644, Typeflag: tar.TypeReg, Format: tar.FormatGNU}); err != nil {
		t.Fatal(err)
	}
	return io.MultiReader(&buf, io.LimitReader(zeros{}, (n+511)/512*512+1024))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// A small archive that unpacks to a large one is given up at the bound: little is written, nothing is left, and memory stays
// small.
func TestBombs(t *testing.T) {
	const size = 96 << 20 // the race detector makes more of it a matter of minutes
	bombs := map[string]func(io.Writer) io.WriteCloser{
		"gzip": func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
		"zstd": func(w io.Writer) io.WriteCloser {
			z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
			if err != nil {
				t.Fatal(err)
			}
			return z
		},
	}
	limits := layout.Limits{Bytes: 256 << 20, Ratio: 20, Free: 8 << 20}
	for name, compress := range bombs {
		t.Run(name, func(t *testing.T) {
			var buf bytes.Buffer
			z := compress(&buf)
			if _, err := io.Copy(z, endless(t, size, "blobs/sha256/"+strings.Repeat("0", 64))); err != nil {
				t.Fatal(err)
			}
			if err := z.Close(); err != nil {
				t.Fatal(err)
			}
			bomb, dir := write(t, buf.Bytes()), t.TempDir()
			for _, l := range []layout.Limits{limits, {Bytes: 16 << 20, Ratio: 1 << 30}} {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				_, err := layout.OpenPacked(t.Context(), bomb, dir, l)
				if !fault.Has(err, layout.ReasonBomb) || !strings.Contains(err.Error(), "unpacks to more than") {
					t.Errorf("%v", err)
				}
				if err := layout.LookTar(t.Context(), bomb, l); !fault.Has(err, layout.ReasonBomb) {
					t.Errorf("look: %v", err)
				}
				runtime.ReadMemStats(&after)
				if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
					t.Errorf("%d MiB were allocated", used>>20)
				}
			}
			left, err := os.ReadDir(dir)
			if err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
	// What is behind the archive is unpacked by others, too.
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	_, _ = z.Write(pack(t, newImage("x").entries()...))
	if _, err := io.CopyN(z, zeros{}, 32<<20); err != nil {
		t.Fatal(err)
	}
	_ = z.Close()
	if err := layout.LookTar(t.Context(), write(t, buf.Bytes()), limits); !fault.Has(err, layout.ReasonBomb) {
		t.Errorf("behind the archive: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := layout.OpenPacked(ctx, write(t, buf.Bytes()), t.TempDir(), layout.Limits{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// The folders of transport dir are looked at before the library reads them.
func TestLookDir(t *testing.T) {
	base := t.TempDir()
	outside := filepath.Join(base, "outside")
	if err := os.WriteFile(outside, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	large := func(p string) error {
		return errors.Join(os.WriteFile(p, nil, 0o644), os.Truncate(p, layout.MaxManifest+1))
	}
	for name, tc := range map[string]struct {
		file string
		make func(path string) error
		text string // "" is good
	}{
		"plain":               {strings.Repeat("0", 64), func(p string) error { return os.WriteFile(p, nil, 0o644) }, ""},
		"a large blob":        {strings.Repeat("0", 64), large, ""},
		"a large manifest":    {"manifest.json", large, "larger than"},
		"a large child":       {strings.Repeat("0", 64) + ".manifest.json", large, "larger than"},
		"a large signature":   {"signature-1", large, "larger than"},
		"a large version":     {"version", large, "larger than"},
		"a pipe":              {"manifest.json", func(p string) error { return syscall.Mkfifo(p, 0o644) }, "not a regular file"},
		"a link out":          {strings.Repeat("0", 64), func(p string) error { return os.Symlink(outside, p) }, "leads out"},
		"a link out by steps": {"manifest.json", func(p string) error { return os.Symlink("../outside", p) }, "leads out"},
	} {
		dir := filepath.Join(base, strings.ReplaceAll(name, " ", "-"))
		if err := errors.Join(os.Mkdir(dir, 0o755), tc.make(filepath.Join(dir, tc.file))); err != nil {
			t.Fatal(err)
		}
		err := layout.LookDir(dir)
		if tc.text == "" && err != nil || tc.text != "" && (!fault.Has(err, layout.ReasonLayout) || !strings.Contains(err.Error(), tc.text)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An index.json larger than others would read is neither read nor written: what is there stays, and can be read.
func TestLargeIndex(t *testing.T) {
	dir := t.TempDir()
	l, err := layout.CreateDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	body := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
	d := oci.Descriptor{MediaType: oci.MediaTypeIndex, Digest: oci.FromBytes(oci.SHA256, body), Size: int64(len(body))}
	var entries []string
	entry := func(i int) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d,"annotations":{%q:"%d"}}`, d.MediaType, d.Digest, d.Size, layout.AnnotationName, i)
	}
	for i := range oci.MaxDescriptors {
		entries = append(entries, entry(i))
	}
	index := filepath.Join(dir, "index.json")
	full := []byte(`{"schemaVersion":2,"manifests":[` + strings.Join(entries, ",") + `]}`)
	if err := os.WriteFile(index, full, 0o644); err != nil {
		t.Fatal(err)
	}
	err = l.PutManifest(t.Context(), ref.Reference{Tag: "one-more"}, d, body)
	if !fault.Is(err, fault.TooLarge) || !strings.Contains(err.Error(), "another layout") {
		t.Errorf("one too many: %v", err)
	}
	if now, err := os.ReadFile(index); err != nil || !bytes.Equal(now, full) {
		t.Errorf("the index was changed: %v", err)
	}
	if err := l.PutManifest(t.Context(), ref.Reference{Tag: "7"}, d, body); err != nil {
		t.Errorf("in the place of another: %v", err)
	}
	if err := os.WriteFile(index, append(full, bytes.Repeat([]byte(" "), 4<<20)...), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Tags(t.Context()); !fault.Has(err, layout.ReasonLayout) || !strings.Contains(err.Error(), "index.json") || !strings.Contains(err.Error(), "larger than 4194304 bytes") {
		t.Errorf("too large: %v", err)
	}
	m := newImage("layer")
	file := write(t, pack(t, m.with("index.json", append(m.files["index.json"], bytes.Repeat([]byte(" "), 4<<20)...)).entries()...))
	if _, err := layout.OpenArchive(file); !fault.Has(err, layout.ReasonLayout) || !strings.Contains(err.Error(), "larger than 4194304 bytes") {
		t.Errorf("too large in an archive: %v", err)
	}
}
