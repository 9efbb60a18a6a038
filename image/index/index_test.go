package index_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"pgregory.net/rapid"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/index"
	"github.com/berth-registry/berth/oci"
)

func entry(n int, arch string) index.Entry {
	return index.Entry{
		Descriptor: v1.Descriptor{MediaType: types.OCIManifestSchema1, Size: 100,
			Digest:   v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%064x", n)},
			Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		Source: "docker://registry.test/app:" + arch,
	}
}

// An image that is named by itself is in a list once, whatever was said of it before.
func TestPut(t *testing.T) {
	var l index.List
	for _, e := range []index.Entry{entry(1, "amd64"), entry(2, "arm64"), entry(1, "riscv64")} {
		l.Add(e)
	}
	l.Put(entry(1, "s390x"))
	l.Put(entry(3, "ppc64le"))
	var have []string
	for _, e := range l.Entries {
		have = append(have, e.Platform.Architecture)
	}
	if !slices.Equal(have, []string{"s390x", "arm64", "ppc64le"}) {
		t.Errorf("listed: %q", have)
	}
}

func TestList(t *testing.T) {
	var l index.List
	l.Add(entry(1, "amd64"))
	l.Add(entry(2, "arm64"))
	l.Add(entry(1, "amd64"))   // again: nothing new
	l.Add(entry(1, "riscv64")) // the same image for another machine: an entry of its own
	if len(l.Entries) != 3 {
		t.Fatalf("%d entries, want 3", len(l.Entries))
	}
	e, err := l.Find(fmt.Sprintf("%064x", 2))
	if err != nil {
		t.Fatal(err)
	}
	e.Apply(index.Change{Variant: "v8", Annotations: map[string]string{"a": "1"}})
	e.Apply(index.Change{OSFeatures: []string{"win32k"}, Annotations: map[string]string{"b": "2"}})
	if p := e.Platform; p.Architecture != "arm64" || p.Variant != "v8" || p.OSFeatures[0] != "win32k" || len(e.Annotations) != 2 {
		t.Errorf("%+v %v", p, e.Annotations)
	}
	if e.Apply(index.Change{Architecture: "amd64"}); e.Platform.Variant != "" {
		t.Errorf("variant %q of another architecture stayed", e.Platform.Variant)
	}
	if _, err := l.Find(strings.Repeat("0", 40)); !fault.Has(err, index.ListConflict) {
		t.Errorf("a beginning of several digests: %v", err)
	}
	if _, err := l.Remove("sha256:" + fmt.Sprintf("%064x", 9)); !fault.Is(err, fault.NotFound) {
		t.Errorf("remove what is not there: %v", err)
	}
	if gone, err := l.Remove("sha256:" + fmt.Sprintf("%064x", 1)); err != nil || gone.Source == "" || len(l.Entries) != 1 {
		t.Errorf("removed %v, %v; %d left, want 1", gone, err, len(l.Entries))
	}
}

func TestRender(t *testing.T) {
	var l index.List
	body, err := l.Render(oci.MediaTypeIndex)
	if want := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`; err != nil || string(body) != want {
		t.Errorf("empty: %s, %v", body, err)
	}
	l.Add(entry(1, "amd64"))
	if _, err := l.Render(oci.MediaTypeDockerList); err != nil {
		t.Error(err)
	}
	l.Entries[0].Annotations = map[string]string{"a": "b"}
	if _, err := l.Render(oci.MediaTypeDockerList); !fault.Has(err, index.ListConflict) {
		t.Errorf("docker list with annotations: %v; they would be lost", err)
	}
	l.Annotations, l.ArtifactType = map[string]string{"c": "d"}, "application/x.test"
	if body, err = l.Render(oci.MediaTypeIndex); err != nil {
		t.Fatal(err)
	}
	back, err := index.Parse(oci.MediaTypeIndex, body, l.Entries[0].Source)
	if err != nil {
		t.Fatal(err)
	}
	again, err := back.Render(oci.MediaTypeIndex)
	if err != nil || string(again) != string(body) {
		t.Errorf("%v\n%s\n%s", err, body, again)
	}
	for _, bad := range []string{`{"schemaVersion":2,"manifests":[{}]}`, `{"schemaVersion":2,"config":{},"layers":[]}`, `[]`} {
		if _, err := index.Parse(oci.MediaTypeIndex, []byte(bad), ""); err == nil {
			t.Errorf("parsed %s", bad)
		}
	}
}

func newStore(t *testing.T) (*index.Store, string) {
	dir := filepath.Join(t.TempDir(), "a", "lists")
	return index.NewStore(dir, func() time.Time { return time.Unix(1700000000, 0) }), dir
}

func TestStore(t *testing.T) {
	s, dir := newStore(t)
	if _, err := s.Get("none"); !fault.Has(err, index.ListUnknown) {
		t.Errorf("no list yet: %v", err)
	}
	made, err := s.Create("app:v1")
	if err != nil || made.Name != "localhost/app:v1" || len(made.ID) != 64 {
		t.Fatalf("%+v, %v", made, err)
	}
	if _, err := s.Create("localhost/app:v1"); !fault.Has(err, index.ListExists) {
		t.Errorf("create again: %v", err)
	}
	for _, name := range []string{"app:v1", "localhost/app:v1", made.ID, made.ID[:12]} {
		if got, err := s.Get(name); err != nil || got.ID != made.ID {
			t.Errorf("get %s: %v", name, err)
		}
	}
	for _, name := range []string{"app", "app:v2", "other/app:v1", made.ID[:3]} {
		if _, err := s.Get(name); !fault.Is(err, fault.NotFound) {
			t.Errorf("get %s: %v", name, err)
		}
	}
	for _, name := range []string{"", "App:v1", "app:v1@sha256:00", "app:", "a b"} {
		if _, err := s.Create(name); !fault.Is(err, fault.Invalid) {
			t.Errorf("create %q: %v", name, err)
		}
	}
	refused := fault.New(fault.Invalid, index.ListConflict, "no")
	if _, err := s.Update("app:v1", func(l *index.List) error { l.Add(entry(1, "amd64")); return refused }); err != refused {
		t.Errorf("update: %v", err)
	}
	if got, _ := s.Get("app:v1"); len(got.List.Entries) != 0 {
		t.Error("a change that failed was saved")
	}
	if _, err := s.Update("app:v1", func(l *index.List) error { l.Add(entry(1, "amd64")); return nil }); err != nil {
		t.Fatal(err)
	}
	got, err := index.NewStore(dir, time.Now).Get("app:v1")
	if err != nil || len(got.List.Entries) != 1 || got.List.Entries[0].Source != "docker://registry.test/app:amd64" {
		t.Errorf("read back: %+v, %v", got, err)
	}
	if _, err := s.Delete("app:v1"); err != nil {
		t.Fatal(err)
	}
	if all, err := s.All(); err != nil || len(all) != 0 {
		t.Errorf("%d lists left, %v", len(all), err)
	}
	// A damaged file is said to be one and not taken for no list.
	if err := os.WriteFile(filepath.Join(dir, "x.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get("app:v1"); err == nil || fault.Is(err, fault.NotFound) {
		t.Errorf("damaged: %v", err)
	}
}

// Changes of many at the same time are all there in the end.
func TestStoreConcurrent(t *testing.T) {
	s, _ := newStore(t)
	if _, err := s.Create("app"); err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for n := range 20 {
		wait.Go(func() {
			if _, err := s.Update("app", func(l *index.List) error { l.Add(entry(n, "amd64")); return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if got, err := s.Get("app"); err != nil || len(got.List.Entries) != 20 {
		t.Errorf("%d entries, want 20 (%v)", len(got.List.Entries), err)
	}
}

// Documents that differ in the order of their keys and in white space are the same lines; what is no JSON stays.
func TestPretty(t *testing.T) {
	a, b := index.Pretty([]byte(`{"b":[1,{"y":"<","x":12345678901234567890}],"a":null}`)), index.Pretty([]byte("{ \"a\": null,\n\"b\": [1, {\"x\": 12345678901234567890, \"y\": \"<\"}]}"))
	want := "{\n  \"a\": null,\n  \"b\": [\n    1,\n    {\n      \"x\": 12345678901234567890,\n      \"y\": \"<\"\n    }\n  ]\n}\n"
	if string(a) != want || string(b) != want {
		t.Errorf("got\n%s\nand\n%s\nwant\n%s", a, b, want)
	}
	for _, s := range []string{"no JSON", `{"a":1} and more`, ""} {
		if got := index.Pretty([]byte(s)); string(got) != s {
			t.Errorf("%q became %q", s, got)
		}
	}
}

func TestDiff(t *testing.T) {
	if got := index.Diff("a", "b", []byte("x\n"), []byte("x\n"), 3); got != "" {
		t.Errorf("same: %q", got)
	}
	got := index.Diff("a", "b", []byte("1\n2\n3\n4\n5\n6\n7\n8\n9\n"), []byte("1\n2\nnew\n4\n5\n6\n7\n8\n9\n10\n"), 1)
	want := "--- a\n+++ b\n@@ -2,3 +2,3 @@\n 2\n-3\n+new\n 4\n@@ -9,1 +9,2 @@\n 9\n+10\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// What Diff says, patch makes.
func TestDiffPatches(t *testing.T) {
	patch, err := exec.LookPath("patch")
	if err != nil {
		t.Skip("patch is not installed")
	}
	lines := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 1, 20)
	rapid.Check(t, func(rt *rapid.T) {
		a := strings.Join(lines.Draw(rt, "a"), "\n") + "\n"
		b := strings.Join(lines.Draw(rt, "b"), "\n") + "\n"
		diff := index.Diff("a", "b", []byte(a), []byte(b), rapid.IntRange(-1, 4).Draw(rt, "context"))
		if (diff == "") != (a == b) {
			rt.Fatalf("diff %q of %q and %q", diff, a, b)
		}
		if diff == "" {
			return
		}
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, []byte(a), 0o600); err != nil {
			rt.Fatal(err)
		}
		cmd := exec.Command(patch, "--silent", "--force", "--no-backup-if-mismatch", file)
		cmd.Stdin = strings.NewReader(diff)
		if out, err := cmd.CombinedOutput(); err != nil {
			rt.Fatalf("%v\n%s\n%s", err, out, diff)
		}
		if got, _ := os.ReadFile(file); string(got) != b {
			rt.Fatalf("%q became %q, want %q\n%s", a, got, b, diff)
		}
	})
}
