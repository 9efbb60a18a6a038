package bundle_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/bundle"
	"github.com/berth-registry/berth/image/layout"
	"github.com/berth-registry/berth/oci"
)

// made is a bundle that Create would not write: its list is anything.
func made(t *testing.T, list any, more ...string) string {
	t.Helper()
	text, err := json.Marshal(list)
	if s, ok := list.(string); ok {
		text, err = []byte(s), nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	put := func(name, body string) {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(body)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	put("oci-layout", `{"imageLayoutVersion":"1.0.0"}`)
	put("index.json", `{"schemaVersion":2,"manifests":[]}`)
	put("berth/bundle.json", string(text))
	for i := 0; i < len(more); i += 2 {
		put(more[i], more[i+1])
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "bundle.tar")
	if err := os.WriteFile(name, buf.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// What a stranger's list takes of memory is in proportion to what is right in it: three bytes of nothing are not made a struct each.
func TestListIsRead(t *testing.T) {
	name := made(t, `{"berthBundle":1,"images":[`+strings.Repeat("{},", 8<<20)+`{}]}`)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := bundle.Open(name)
	runtime.ReadMemStats(&after)
	if !fault.Has(err, bundle.ReasonDamaged) {
		t.Errorf("%v", err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20 {
		t.Errorf("a list of 24 MiB that is wrong at its beginning took %d MiB of memory", used>>20)
	}
	if _, err := bundle.Open(made(t, `{"berthBundle":1`+strings.Repeat(" ", bundle.MaxList)+`}`)); !fault.Has(err, bundle.ReasonDamaged) || !strings.Contains(err.Error(), "64 is the most") {
		t.Errorf("a list that is too large: %v", err)
	}
}

// A list that names what no bundle has is refused when it is opened, before anybody acts upon it.
func TestHostileLists(t *testing.T) {
	d := oci.FromBytes(oci.SHA256, []byte("x")).String()
	good := map[string]any{"berthBundle": 1, "images": []any{}, "state": bundle.StateOf(nil)}
	with := func(key string, value any) map[string]any {
		out := maps.Clone(good)
		out[key] = value
		return out
	}
	image := func(key string, value any) map[string]any {
		i := map[string]any{"repository": "team/app", "tag": "v1", "digest": d, "manifests": []any{map[string]any{"digest": d, "size": 1}}, "blobs": []any{}}
		i[key] = value
		return with("images", []any{i})
	}
	file := func(name string, size int64) map[string]any {
		return with("files", []any{map[string]any{"kind": "file", "name": name, "digest": d, "size": size}})
	}
	if b, err := bundle.Open(made(t, good)); err != nil {
		t.Fatal(err)
	} else if err := b.Close(); err != nil {
		t.Error(err)
	}
	for name, list := range map[string]any{
		"no JSON":                  "[",
		"deep":                     `{"berthBundle":1,"images":` + strings.Repeat("[", 1<<20) + strings.Repeat("]", 1<<20) + "}",
		"a key twice":              `{"berthBundle":1,"berthBundle":1,"images":[],"state":""}`,
		"something behind it":      `{"berthBundle":1,"images":[],"state":"` + bundle.StateOf(nil) + `"} {}`,
		"images without end":       `{"berthBundle":1,"images":[` + strings.Repeat("{},", 1<<20) + `{}]}`,
		"manifests without digest": image("manifests", []any{map[string]any{"size": 1}, map[string]any{"digest": d, "size": 1}}),
		"a blob without digest":    image("blobs", []any{map[string]any{}}),
		"a lack without digest":    with("lacks", []any{map[string]any{}}),
		"a thousand receipts":      with("against", make([]string, 1001)),
		"a thousand files":         with("files", make([]any, 1001)),
		"a key that nobody knows":  with("more", 1),
		"a version of the future":  with("berthBundle", 2),
		"a state of other images":  with("state", d),
		"a repository with a path": image("repository", "../../etc"),
		"no repository":            image("repository", ""),
		"a tag with a path":        image("tag", "../v1"),
		"no digest":                image("digest", "sha256:x"),
		"no manifests":             image("manifests", []any{}),
		"another manifest":         image("manifests", []any{map[string]any{"digest": oci.FromBytes(oci.SHA256, nil).String(), "size": 1}}),
		"a tag beside with a path": image("tags", map[string]string{"../x": d}),
		"a file above":             file("../note", 1),
		"a file below":             file("a/note", 1),
		"a file by its root":       file("/etc/note", 1),
		"a file without a name":    file("", 1),
		"a file that is a folder":  file("..", 1),
		"a file of Windows":        file(`..\note`, 1),
		"a file that is too large": file("note", bundle.MaxFile+1),
	} {
		t.Run(name, func(t *testing.T) {
			b, err := bundle.Open(made(t, list))
			if err == nil {
				_ = b.Close()
			}
			if !fault.Has(err, bundle.ReasonDamaged) {
				t.Errorf("%v", err)
			}
		})
	}
	for name, more := range map[string][]string{
		"the list twice":           {"berth/bundle.json", "{}"},
		"a huge signature":         {"berth/signature.json", strings.Repeat(" ", 65<<10)},
		"a signature that is none": {"berth/signature.json", "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := bundle.Open(made(t, good, more...)); !fault.Has(err, bundle.ReasonDamaged) && !fault.Has(err, layout.ReasonLayout) {
				t.Errorf("%v", err)
			}
		})
	}
}

// The files of a bundle are written into the folder that was named and nowhere else: not through a link that lies there, and not
// over a file of somebody else.
func TestFilesStayInside(t *testing.T) {
	body := "a note"
	d := oci.FromBytes(oci.SHA256, []byte(body))
	list := map[string]any{"berthBundle": 1, "images": []any{}, "state": bundle.StateOf(nil),
		"files": []any{map[string]any{"kind": "file", "name": "note", "digest": d, "size": len(body)}}}
	b, err := bundle.Open(made(t, list, "berth/files/note", body))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "outside")
	if err := os.Symlink(outside, filepath.Join(dir, "note")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Apply(t.Context(), bundle.Use{Files: dir}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(outside); !os.IsNotExist(err) {
		t.Errorf("it was written through a link: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "note"), []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Apply(t.Context(), bundle.Use{Files: dir}); !fault.Is(err, fault.Conflict) {
		t.Errorf("over another file: %v", err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "note")); err != nil || string(got) != "mine" {
		t.Errorf("%q, %v", got, err)
	}
	// A file whose bytes are others is not written.
	other, err := bundle.Open(made(t, list, "berth/files/note", "A NOTE"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	fresh := filepath.Join(t.TempDir(), "fresh")
	if _, _, err := other.Apply(t.Context(), bundle.Use{Files: fresh}); !fault.Has(err, bundle.ReasonDamaged) {
		t.Errorf("a damaged file: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(fresh, "note")); !os.IsNotExist(err) {
		t.Errorf("it was written: %v", err)
	}
}
