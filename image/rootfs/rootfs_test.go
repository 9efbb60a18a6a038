package rootfs_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/rootfs"
)

// layer is a layer in memory that counts what was read of it.
type layer struct {
	packed []byte
	said   v1.Hash // digest, which need not be true
	read   int
	opened int
}

func (l *layer) Digest() (v1.Hash, error)             { return l.said, nil }
func (l *layer) DiffID() (v1.Hash, error)             { return l.said, nil }
func (l *layer) Size() (int64, error)                 { return int64(len(l.packed)), nil }
func (l *layer) MediaType() (types.MediaType, error)  { return types.OCILayer, nil }
func (l *layer) Uncompressed() (io.ReadCloser, error) { return nil, errors.New("not needed") }

func (l *layer) Compressed() (io.ReadCloser, error) {
	l.opened++
	return io.NopCloser(io.TeeReader(bytes.NewReader(l.packed), count{l})), nil
}

type count struct{ l *layer }

func (c count) Write(p []byte) (int, error) { c.l.read += len(p); return len(p), nil }

// image makes an image of layers, the lowest first.
func image(t testing.TB, layers ...*layer) v1.Image {
	t.Helper()
	img := empty.Image
	for _, l := range layers {
		var err error
		if img, err = mutate.AppendLayers(img, l); err != nil {
			t.Fatal(err)
		}
	}
	return img
}

func sum(b []byte) v1.Hash {
	h := sha256.Sum256(b)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h[:])}
}

// layerOf makes a layer of lines: "path/" is a directory, "path=text" a file, "path->target" a symbolic link,
// "path=>target" a hard link.
func layerOf(t testing.TB, lines ...string) *layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, line := range lines {
		h, body := &tar.Header{Mode: 0o644, Typeflag: tar.TypeReg}, ""
		switch {
		case strings.Contains(line, "->"):
			h.Typeflag = tar.TypeSymlink
			h.Name, h.Linkname, _ = strings.Cut(line, "->")
		case strings.Contains(line, "=>"):
			h.Typeflag = tar.TypeLink
			h.Name, h.Linkname, _ = strings.Cut(line, "=>")
		case strings.HasSuffix(line, "/"):
			h.Typeflag, h.Mode, h.Name = tar.TypeDir, 0o755, line
		default:
			h.Name, body, _ = strings.Cut(line, "=")
			h.Size = int64(len(body))
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return gzipped(t, b.Bytes())
}

func gzipped(t testing.TB, b []byte) *layer {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return &layer{packed: out.Bytes(), said: sum(out.Bytes())}
}

// tree is what Walk shows, in the notation of layerOf, sorted, without directories.
func tree(t testing.TB, img v1.Image) string {
	t.Helper()
	files := map[string]string{}
	err := rootfs.Walk(t.Context(), img, rootfs.Limits{}, func(e *rootfs.Entry, r io.Reader) error {
		switch e.Header.Typeflag {
		case tar.TypeReg:
			b, err := io.ReadAll(r)
			files[e.Path] = "=" + string(b)
			return err
		case tar.TypeSymlink:
			files[e.Path] = "->" + e.Header.Linkname
		case tar.TypeLink:
			files[e.Path] = files[e.Header.Linkname]
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range slices.Sorted(maps.Keys(files)) {
		out = append(out, p+files[p])
	}
	return strings.Join(out, " ")
}

func TestWhiteouts(t *testing.T) {
	for name, c := range map[string]struct {
		layers [][]string // the lowest first
		want   string
	}{
		"replaced":                  {[][]string{{"a=1", "b=1"}, {"a=2"}}, "a=2 b=1"},
		"removed":                   {[][]string{{"d/", "d/a=1", "d/b=1"}, {"d/.wh.a="}}, "d/b=1"},
		"removed directory":         {[][]string{{"d/", "d/a=1", "e=1"}, {".wh.d="}}, "e=1"},
		"removed and made again":    {[][]string{{"d/", "d/a=1"}, {".wh.d=", "d/", "d/b=2"}}, "d/b=2"},
		"made again, whiteout last": {[][]string{{"d/", "d/a=1"}, {"d/", "d/b=2", ".wh.d="}}, "d/b=2"},
		"made again without entry":  {[][]string{{"d/", "d/a=1"}, {".wh.d=", "d/b=2"}}, "d/b=2"},
		"opaque":                    {[][]string{{"d/", "d/a=1", "d/e/f=1"}, {"d/", "d/.wh..wh..opq=", "d/b=2"}}, "d/b=2"},
		"opaque, mark last":         {[][]string{{"d/", "d/a=1"}, {"d/b=2", "d/.wh..wh..opq="}}, "d/b=2"},
		"opaque root":               {[][]string{{"a=1", "d/b=1"}, {".wh..wh..opq=", "c=2"}}, "c=2"},
		"file over directory":       {[][]string{{"d/", "d/a=1"}, {"d=2"}}, "d=2"},
		"directory over file":       {[][]string{{"d=1"}, {"d/", "d/a=2"}}, "d/a=2"},
		"implied over file":         {[][]string{{"d=1"}, {"d/a=2"}}, "d/a=2"},
		"nothing from below a file": {[][]string{{"d/", "d/a=1"}, {"d=2"}, {"d/", "d/b=3"}}, "d/b=3"},
		"link over directory":       {[][]string{{"d/", "d/a=1"}, {"d->e"}}, "d->e"},
		"same path twice":           {[][]string{{"a=1", "a=2"}}, "a=2"},
		"dots and slashes":          {[][]string{{"./a=1", "/b=1"}, {"a=2"}}, "a=2 b=1"},
		"storage driver's marks":    {[][]string{{"a=1"}, {".wh..wh.plnk/", ".wh..wh.aufs="}}, "a=1"},
		"hard link":                 {[][]string{{"a=1", "b=>a"}}, "a=1 b=1"},
		"hard link, target moved":   {[][]string{{"a=1", "b=>a", "c=>a"}, {"a=2"}}, "a=2 b=1 c=1"},
		"hard link, target removed": {[][]string{{"a=1", "b=>a", "c=>b"}, {".wh.a="}}, "b=1 c=1"},
		"hard link to below":        {[][]string{{"a=1"}, {"b=>a"}}, "a=1 b=1"},
		"hard link to below, gone":  {[][]string{{"a=1"}, {"b=>a"}, {".wh.a="}}, "b=1"},
		"hard link removed":         {[][]string{{"a=1", "b=>a"}, {".wh.b="}}, "a=1"},
	} {
		t.Run(name, func(t *testing.T) {
			var layers []*layer
			for _, lines := range c.layers {
				layers = append(layers, layerOf(t, lines...))
			}
			img := image(t, layers...)
			if got := tree(t, img); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			// Find agrees with Walk, for every path that any layer mentions.
			want := map[string]string{}
			for _, f := range strings.Fields(c.want) {
				if p, text, ok := strings.Cut(f, "="); ok {
					want[p] = text
				}
			}
			for _, p := range []string{"a", "b", "c", "d", "e", "d/a", "d/b", "d/e/f"} {
				got, err := cat(t.Context(), img, p)
				text, ok := want[p]
				switch {
				case name == "same path twice": // Find takes the first, and says so
				case ok && (err != nil || got != text):
					t.Errorf("cat %s: %q, %v; want %q", p, got, err, text)
				case !ok && err == nil && got != "a directory":
					t.Errorf("cat %s: %q, want none", p, got)
				}
			}
		})
	}
}

func cat(ctx context.Context, img v1.Image, p string) (string, error) {
	var text string
	err := rootfs.Find(ctx, img, p, rootfs.FindOptions{}, func(e *rootfs.Entry, r io.Reader) error {
		if e.Header.Typeflag == tar.TypeDir {
			text = "a directory"
			return nil
		}
		b, err := io.ReadAll(r)
		text = string(b)
		return err
	})
	return text, err
}

// TestUnpacked compares Walk, which goes from the top down, with a directory to which random layers are applied from the
// lowest up.
func TestUnpacked(t *testing.T) {
	names := rapid.SampledFrom([]string{"a", "b", "d/a", "d/b", "d/e/a", "e/a"})
	rapid.Check(t, func(rt *rapid.T) {
		root, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		var layers []*layer
		for n := range rapid.IntRange(1, 4).Draw(rt, "layers") {
			var lines []string
			for range rapid.IntRange(0, 4).Draw(rt, "entries") {
				p := names.Draw(rt, "path")
				dir, base := path.Split(p)
				full := filepath.Join(root, p)
				switch rapid.SampledFrom([]string{"file", "hide", "opaque", "directory"}).Draw(rt, "what") {
				case "file":
					lines = append(lines, fmt.Sprintf("%s=%d", p, n))
				case "directory":
					lines = append(lines, p+"/")
				case "hide":
					lines = append(lines, dir+".wh."+base+"=")
					_ = os.RemoveAll(full)
				case "opaque":
					lines = append(lines, p+"/", p+"/.wh..wh..opq=")
					_ = os.RemoveAll(full)
				}
			}
			// Whiteouts were applied to what is below; now what the layer brings, in an order that has no conflicts inside.
			lines = consistent(lines)
			for _, line := range lines {
				apply(rt, root, line)
			}
			layers = append(layers, layerOf(t, lines...))
		}
		var want []string
		_ = filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				b, _ := os.ReadFile(p)
				rel, _ := filepath.Rel(root, p)
				want = append(want, rel+"="+string(b))
			}
			return nil
		})
		slices.Sort(want)
		if got := tree(t, image(t, layers...)); got != strings.Join(want, " ") {
			rt.Fatalf("got  %s\nwant %s", got, strings.Join(want, " "))
		}
	})
}

// consistent drops what contradicts an earlier line of the layer: a path that is a file here and a directory there.
func consistent(lines []string) []string {
	kinds, out := map[string]byte{}, []string(nil)
	for _, line := range lines {
		p, _, file := strings.Cut(line, "=")
		kind := byte('f')
		if !file {
			p, kind = strings.TrimSuffix(p, "/"), 'd'
		}
		if strings.Contains(p, ".wh.") {
			kind = 'w'
		}
		ok := kinds[p] == 0 || kinds[p] == kind
		for q := path.Dir(p); q != "."; q = path.Dir(q) {
			ok = ok && kinds[q] != 'f'
		}
		if !ok {
			continue
		}
		kinds[p] = kind
		for q := path.Dir(p); q != "."; q = path.Dir(q) {
			kinds[q] = 'd'
		}
		out = append(out, line)
	}
	return out
}

func apply(t *rapid.T, root, line string) {
	p, text, file := strings.Cut(line, "=")
	if strings.Contains(p, ".wh.") {
		p = path.Dir(p)
		file = false
		if p == "." {
			return
		}
	}
	full := filepath.Join(root, p)
	for q := filepath.Dir(full); len(q) > len(root); q = filepath.Dir(q) { // a directory replaces a file
		if info, err := os.Lstat(q); err == nil && !info.IsDir() {
			_ = os.Remove(q)
		}
	}
	if info, err := os.Lstat(full); err == nil && info.IsDir() == file {
		_ = os.RemoveAll(full)
	}
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	var err error
	if file {
		err = os.WriteFile(full, []byte(text), 0o644)
	} else {
		err = os.MkdirAll(full, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestFindFollowsLinks(t *testing.T) {
	img := image(t,
		layerOf(t, "usr/", "usr/lib/", "usr/lib/os-release=debian", "lib->usr/lib", "etc/os-release->../usr/lib/os-release",
			"abs->/usr/lib/os-release", "up->../../../usr/lib/os-release", "loop->loop", "a->b", "b->a", "h=>usr/lib/os-release"),
		layerOf(t, "etc/", "etc/hosts=here"))
	for p, want := range map[string]string{
		"/etc/os-release": "debian", "lib/os-release": "debian", "/abs": "debian", "up": "debian", "h": "debian",
		"etc/hosts": "here", "./etc//hosts": "here", "/": "a directory", "lib": "a directory",
	} {
		if got, err := cat(t.Context(), img, p); err != nil || got != want {
			t.Errorf("cat %s: %q, %v; want %q", p, got, err, want)
		}
	}
	for p, kind := range map[string]fault.Kind{
		"loop": fault.Invalid, "a": fault.Invalid, "etc/none": fault.NotFound, "etc/hosts/x": fault.NotFound, "../etc/hosts": fault.Invalid,
	} {
		if got, err := cat(t.Context(), img, p); !fault.Is(err, kind) || !fault.Has(err, rootfs.FileUnknown) {
			t.Errorf("cat %s: %q, %v; want kind %d, FILE_UNKNOWN", p, got, err, kind)
		}
	}
}

// A file near the start of the top layer costs neither the rest of that layer nor the layers below.
func TestFindStopsEarly(t *testing.T) {
	noise := make([]byte, 4<<20)
	for i, source := 0, rand.New(rand.NewPCG(1, 2)); i < len(noise); i++ {
		noise[i] = 'a' + byte(source.IntN(26))
	}
	below := layerOf(t, "big="+string(noise))
	top := layerOf(t, "etc/motd=hello", "more="+string(noise))
	img := image(t, below, top)
	if got, err := cat(t.Context(), img, "etc/motd"); err != nil || got != "hello" {
		t.Fatalf("%q, %v", got, err)
	}
	if below.opened != 0 || top.read > len(top.packed)/2 {
		t.Errorf("the layer below was opened %d times, and %d of %d bytes of the top were read", below.opened, top.read, len(top.packed))
	}
	top.read = 0
	err := rootfs.Find(t.Context(), img, "etc/motd", rootfs.FindOptions{Verify: true}, func(*rootfs.Entry, io.Reader) error { return nil })
	if err != nil || top.read != len(top.packed) {
		t.Errorf("verified after %d of %d bytes: %v", top.read, len(top.packed), err)
	}
}

func TestRefused(t *testing.T) {
	bomb := bytes.Buffer{}
	w := tar.NewWriter(&bomb)
	if err := w.WriteHeader(&tar.Header{Name: "zeros", Size: 8 << 20, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	bomb.Write(make([]byte, 8<<20))
	bomb.Write(make([]byte, 1024))
	cut := layerOf(t, "a="+strings.Repeat("text ", 1000))
	cut.packed = cut.packed[:len(cut.packed)-20]
	text := &layer{packed: []byte("<html>not found</html>"), said: sum([]byte("x"))}
	zw, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	zstdBomb := zw.EncodeAll(bomb.Bytes(), nil)
	window := append([]byte("\x28\xb5\x2f\xfd\x00\xa8"), make([]byte, 64)...) // asks for 2 GiB
	hole := sparse(t, 1<<40)

	for name, c := range map[string]struct {
		layer  *layer
		limits rootfs.Limits
		reason fault.Reason
		says   string
	}{
		"path leaves":            {layerOf(t, "a/../../etc/passwd=x"), rootfs.Limits{}, rootfs.LayerUnsafe, "leaves the image"},
		"hard link leaves":       {layerOf(t, "a=>../../etc/passwd"), rootfs.Limits{}, rootfs.LayerUnsafe, "leaves the image"},
		"whiteout leaves":        {layerOf(t, "d/.wh...="), rootfs.Limits{}, rootfs.LayerUnsafe, "names no file"},
		"whiteout of nothing":    {layerOf(t, "d/.wh.="), rootfs.Limits{}, rootfs.LayerUnsafe, "names no file"},
		"bomb by ratio":          {gzipped(t, bomb.Bytes()), rootfs.Limits{Free: 1 << 20}, rootfs.LayerTooLarge, "--max-ratio"},
		"bomb by size":           {gzipped(t, bomb.Bytes()), rootfs.Limits{Bytes: 1 << 20}, rootfs.LayerTooLarge, "--max-bytes"},
		"zstd bomb by ratio":     {&layer{packed: zstdBomb, said: sum(zstdBomb)}, rootfs.Limits{Free: 1 << 20}, rootfs.LayerTooLarge, "--max-ratio"},
		"zstd window":            {&layer{packed: window, said: sum(window)}, rootfs.Limits{}, rootfs.LayerDamaged, ""},
		"sparse by ratio":        {hole, rootfs.Limits{Bytes: 1 << 50}, rootfs.LayerTooLarge, "--max-ratio"},
		"sparse by size":         {hole, rootfs.Limits{}, rootfs.LayerTooLarge, "--max-bytes"},
		"too many files":         {layerOf(t, "a=1", "b=1", "c=1"), rootfs.Limits{Entries: 2}, rootfs.LayerTooLarge, "--max-files"},
		"cut short":              {cut, rootfs.Limits{}, rootfs.LayerDamaged, "cut short"},
		"no archive":             {text, rootfs.Limits{}, rootfs.LayerDamaged, ""},
		"hard link to nothing":   {layerOf(t, "a=>b"), rootfs.Limits{}, rootfs.LayerDamaged, "does not have"},
		"hard links in a circle": {layerOf(t, "a=>b", "b=>a"), rootfs.Limits{}, rootfs.LayerDamaged, ""},
	} {
		t.Run(name, func(t *testing.T) {
			img := image(t, c.layer)
			err := rootfs.Tar(t.Context(), img, c.limits, io.Discard)
			if !fault.Has(err, c.reason) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Tar: %v; want %s with %q", err, c.reason, c.says)
			}
			err = rootfs.Find(t.Context(), img, "a", rootfs.FindOptions{Limits: c.limits}, func(_ *rootfs.Entry, r io.Reader) error {
				_, err := io.Copy(io.Discard, r)
				return err
			})
			if err == nil && name != "too many files" {
				t.Error("Find: no error")
			}
		})
	}
}

// sparse is a layer with a file a of so many bytes, of which none is in the archive: the form of GNU tar before PAX.
func sparse(t testing.TB, size int64) *layer {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "a", Typeflag: tar.TypeReg, Mode: 0o644}), w.Close()); err != nil {
		t.Fatal(err)
	}
	b := buf.Bytes()
	b[156] = tar.TypeGNUSparse
	copy(b[257:265], "ustar  \x00")
	number := func(at int, n int64) { // in base 256
		b[at] = 0x80
		binary.BigEndian.PutUint64(b[at+4:], uint64(n)) //nolint:gosec // a size
	}
	number(386, size) // one piece, at the end, of no bytes
	number(398, 0)
	number(483, size)
	copy(b[148:156], "        ")
	total := 0
	for _, c := range b[:512] {
		total += int(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", total))
	return &layer{packed: b, said: sum(b)}
}

func TestZstandardAndPlain(t *testing.T) {
	gz := layerOf(t, "a=1")
	r, err := gzip.NewReader(bytes.NewReader(gz.packed))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, packed := range [][]byte{plain, z.EncodeAll(plain, nil)} {
		if got := tree(t, image(t, &layer{packed: packed, said: sum(packed)})); got != "a=1" {
			t.Errorf("got %s", got)
		}
	}
}

func TestList(t *testing.T) {
	img := image(t, layerOf(t, "usr/", "usr/bin/tool=12345", "bin->usr/bin", "usr/bin/same=>usr/bin/tool"), layerOf(t, "usr/bin/new=1"))
	names := func(dir string, deep bool) string {
		t.Helper()
		files, err := rootfs.List(t.Context(), img, dir, deep, rootfs.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, f := range files {
			out = append(out, fmt.Sprintf("%s:%d", f.Path, f.Size))
		}
		return strings.Join(out, " ")
	}
	for _, c := range []struct {
		dir  string
		deep bool
		want string
	}{
		{"/", false, "/bin:0 /usr:0"},
		{"", true, "/bin:0 /usr:0 /usr/bin:0 /usr/bin/new:1 /usr/bin/same:5 /usr/bin/tool:5"},
		{"/bin", false, "/usr/bin/new:1 /usr/bin/same:5 /usr/bin/tool:5"},
		{"bin/tool", false, "/usr/bin/tool:5"},
	} {
		if got := names(c.dir, c.deep); got != c.want {
			t.Errorf("ls %q: %s\nwant %s", c.dir, got, c.want)
		}
	}
	if _, err := rootfs.List(t.Context(), img, "/none", false, rootfs.Limits{}); !fault.Is(err, fault.NotFound) {
		t.Errorf("ls /none: %v", err)
	}
}

func FuzzTar(f *testing.F) {
	f.Add([]byte("seed"))
	l := layerOf(f, "a=1", ".wh.b=", "d/.wh..wh..opq=", "c->../..", "e=>a")
	f.Add(l.packed)
	f.Fuzz(func(t *testing.T, packed []byte) {
		img := image(t, &layer{packed: packed, said: sum(packed)})
		var out bytes.Buffer
		if err := rootfs.Tar(t.Context(), img, rootfs.Limits{Bytes: 1 << 20, Entries: 1000}, &out); err != nil {
			return
		}
		for r := tar.NewReader(&out); ; { // what it writes can be read, and stays inside
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if p := path.Clean(h.Name); path.IsAbs(p) || p == ".." || strings.HasPrefix(p, "../") {
				t.Fatalf("path %q", h.Name)
			}
		}
	})
}
