//go:build unix

package cli_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/berth-registry/berth/cli"
)

// berth runs the tool in this process, without registries and policies of the machine.
func berth(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = cli.Main(append([]string{"berth", "--insecure-policy"}, args...), cli.Streams{In: strings.NewReader(""), Out: &o, Err: &e})
	return code, o.String(), e.String()
}

// member is a file of an archive.
type member struct {
	name string
	body []byte
	link string
}

func tarOf(t testing.TB, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Mode: 0o644, Size: int64(len(m.body)), Typeflag: tar.TypeReg}
		if m.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, m.link
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(m.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// saved are the members of what docker save writes of an image with one layer.
func saved(t testing.TB) []member {
	t.Helper()
	files := layer("etc/motd", strings.Repeat("hello ", 100))
	config := []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:` + sum(files) + `"]}}`)
	return []member{
		{name: sum(config) + ".json", body: config},
		{name: "layer.tar", body: files},
		{name: "manifest.json", body: []byte(`[{"Config":"` + sum(config) + `.json","RepoTags":["team/app:v1"],"Layers":["layer.tar"]}]`)},
	}
}

// tree are the files of a folder as members of an archive.
func tree(t testing.TB, dir string) (out []member) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		out = append(out, member{name: name, body: body})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sandbox is a folder with temporary files of its own, where the tool works.
func sandbox(t *testing.T) (dir, temp string) {
	t.Helper()
	dir, temp = t.TempDir(), filepath.Join(t.TempDir(), "temp")
	if err := os.Mkdir(temp, 0o755); err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{"HOME": dir, "XDG_STATE_HOME": dir, "XDG_CONFIG_HOME": dir, "XDG_RUNTIME_DIR": dir, "REGISTRY_AUTH_FILE": "", "LANG": "C.UTF-8", "TMPDIR": temp, "BERTH_BLOB_CACHE_DIR": filepath.Join(dir, "cache")} {
		t.Setenv(k, v)
	}
	return dir, temp
}

// An image of a stranger in any local place: what is wrong is said, in time, nothing is left in the temporary folder, and the
// target has no image, or the one that it had.
func TestHostilePlaces(t *testing.T) {
	dir, temp := sandbox(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, body []byte) string {
		if err := os.WriteFile(at(name), body, 0o644); err != nil {
			t.Fatal(err)
		}
		return at(name)
	}
	if err := writeImage(at("good"), "a"); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := berth(t, "copy", "oci:"+at("good")+":v1", "dir:"+at("goodfolder")); code != 0 {
		t.Fatal(errs)
	}
	// change makes a copy of a folder in which one file is something else.
	change := func(from, name, file string, by func(path string) error) string {
		if err := os.CopyFS(at(name), os.DirFS(at(from))); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(at(name), file)
		if err := errors.Join(os.RemoveAll(path), by(path)); err != nil {
			t.Fatal(err)
		}
		return at(name)
	}
	pipe := func(p string) error { return syscall.Mkfifo(p, 0o644) }
	huge := func(p string) error { return errors.Join(os.WriteFile(p, nil, 0o644), os.Truncate(p, 1<<40)) }
	text := func(s string) func(string) error {
		return func(p string) error { return os.WriteFile(p, []byte(s), 0o644) }
	}
	out := func(p string) error { return os.Symlink("/etc/passwd", p) }
	manifest := func(dir string) string { return "blobs/sha256/" + manifestHex(t, dir) }
	save := saved(t)
	twice := append(saved(t), member{name: "manifest.json", body: []byte(`[{"Config":"x.json","RepoTags":[],"Layers":[]}]`)})
	link := []member{save[0], {name: "layer.tar", link: "../../../../etc/passwd"}, save[2]}
	changed := []member{save[0], {name: "layer.tar", body: layer("etc/motd", "another")}, save[2]}
	endless := "[" + strings.Repeat(" ", 16<<20) + "]"
	oci := tarOf(t, tree(t, at("good"))...)
	for name, tc := range map[string]struct {
		source string
		text   string
		flags  []string // of copy; with --format the library reads what our own engine would
	}{
		"dir, manifest is a pipe":                {"dir:" + change("goodfolder", "d1", "manifest.json", pipe), "not a regular file", nil},
		"dir, manifest without end":              {"dir:" + change("goodfolder", "d2", "manifest.json", huge), "larger than", nil},
		"dir, version without end":               {"dir:" + change("goodfolder", "d3", "version", huge), "larger than", nil},
		"dir, a link out":                        {"dir:" + change("goodfolder", "d4", "manifest.json", out), "leads out", nil},
		"dir, deep manifest":                     {"dir:" + change("goodfolder", "d5", "manifest.json", text(strings.Repeat("[", 1<<20))), "", nil},
		"oci, index is a pipe":                   {"oci:" + change("good", "o1", "index.json", pipe) + ":v1", "not a regular file", nil},
		"oci, index without end":                 {"oci:" + change("good", "o2", "index.json", huge) + ":v1", "larger than", nil},
		"oci, manifest of other bytes":           {"oci:" + change("good", "o3", manifest(at("good")), text("{}")) + ":v1", "its bytes have the digest", nil},
		"oci, a link out":                        {"oci:" + change("good", "o4", manifest(at("good")), out) + ":v1", "leads out", nil},
		"library, index is a pipe":               {"oci:" + at("o1") + ":v1", "not a regular file", []string{"--format", "v2s2"}},
		"library, index without end":             {"oci:" + at("o2") + ":v1", "larger than", []string{"--format", "v2s2"}},
		"library, manifest of other bytes":       {"oci:" + at("o3") + ":v1", "its bytes have the digest", []string{"--format", "v2s2"}},
		"library, a link out":                    {"oci:" + at("o4") + ":v1", "leads out", []string{"--format", "v2s2"}},
		"oci-archive, cut":                       {"oci-archive:" + write("a1.tar", oci[:len(oci)/2]) + ":v1", "cut off", nil},
		"oci-archive, packed and cut":            {"oci-archive:" + write("a2.tar.gz", zipped(oci)[:1000]) + ":v1", "cut off", nil},
		"oci-archive, names that lead out":       {"oci-archive:" + write("a3.tar", tarOf(t, member{name: "../../index.json", body: []byte("{}")})) + ":v1", "not an OCI image layout", nil},
		"library, names that lead out":           {"oci-archive:" + at("a3.tar") + ":v1", "not an OCI image layout", []string{"--format", "v2s2"}},
		"library, an archive that is cut":        {"oci-archive:" + at("a1.tar") + ":v1", "cut off", []string{"--format", "v2s2"}},
		"docker-archive, cut":                    {"docker-archive:" + write("s1.tar", tarOf(t, save...)[:2000]), "cut off", nil},
		"docker-archive, packed and cut":         {"docker-archive:" + write("s2.tar.gz", zipped(tarOf(t, save...))[:300]), "cut off", nil},
		"docker-archive, manifest twice":         {"docker-archive:" + write("s3.tar", tarOf(t, twice...)), "twice", nil},
		"docker-archive, a layer that leads out": {"docker-archive:" + write("s4.tar", tarOf(t, link...)), "", nil},
		"docker-archive, a changed layer":        {"docker-archive:" + write("s5.tar", tarOf(t, changed...)), "igest", nil},
		"docker-archive, manifest without end":   {"docker-archive:" + write("s6.tar", tarOf(t, member{name: "manifest.json", body: []byte(endless)})), "", nil},
		"docker-archive, a bomb":                 {"docker-archive:" + write("s7.tar.gz", bomb(t, 400<<20)), "archive bomb", nil},
		"oci-archive, a bomb":                    {"oci-archive:" + at("s7.tar.gz"), "archive bomb", nil},
		"docker-archive, a pipe":                 {"docker-archive:" + change("good", "p1", "pipe", pipe) + "/pipe", "not a regular file", nil},
		"docker-archive, xz":                     {"docker-archive:" + write("s8.tar.xz", []byte("\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4\x46")), "xz -d", nil},
	} {
		for _, target := range []string{"oci", "dir", "docker-archive", "oci-archive"} {
			if tc.flags != nil && target == "oci" {
				continue // of another form than a layout holds
			}
			if strings.HasSuffix(name, "bomb") && target != "dir" {
				continue // which takes its time, and is found before the target is looked at
			}
			t.Run(name+" to "+target, func(t *testing.T) {
				to := at(fmt.Sprintf("to-%s-%x", target, name))
				began := time.Now()
				code, stdout, errs := berth(t, append(append([]string{"copy"}, tc.flags...), tc.source, target+":"+to+targetName(target))...)
				if code == 0 || stdout != "" || !strings.Contains(errs, tc.text) {
					t.Errorf("exit code %d, want %q: %s%s", code, tc.text, stdout, errs)
				}
				if strings.Contains(errs, "goroutine ") {
					t.Errorf("a stack: %s", errs)
				}
				if d := time.Since(began); d > 30*time.Second {
					t.Errorf("it took %s", d)
				}
				if code, _, _ := berth(t, "inspect", "--raw", target+":"+to); code == 0 {
					t.Error("the target has an image")
				}
				left, err := os.ReadDir(temp)
				if err != nil || len(left) > 0 {
					t.Errorf("left in the temporary folder: %v, %v", left, err)
				}
			})
		}
		t.Run(name+", inspect", func(t *testing.T) {
			if strings.Contains(name, "layer") { // which inspect does not read
				return
			}
			if code, _, errs := berth(t, "inspect", tc.source); code == 0 || strings.Contains(errs, "goroutine ") {
				t.Errorf("exit code %d: %s", code, errs)
			}
		})
	}
}

// targetName is what stands behind the path of a target.
func targetName(transport string) string {
	switch transport {
	case "docker-archive":
		return ":team/app:v1"
	case "dir":
		return ""
	}
	return ":v1"
}

func zipped(b []byte) []byte {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	_, _ = z.Write(b)
	_ = z.Close()
	return buf.Bytes()
}

// bomb is a packed archive with a file of so many zeros.
func bomb(t testing.TB, size int64) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&tar.Header{Name: "manifest.json", Size: size, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	zero := make([]byte, 1<<20)
	for n := int64(0); n < size; n += int64(len(zero)) {
		if _, err := w.Write(zero); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// A copy that fails, for want of space or for a wrong source, leaves the image that was in the target as it was, whoever writes
// it, and one that succeeds takes its place.
func TestOldImageStays(t *testing.T) {
	dir, _ := sandbox(t)
	for _, name := range []string{"old", "damaged"} {
		if err := writeImage(filepath.Join(dir, name), name); err != nil {
			t.Fatal(err)
		}
	}
	if err := damageLayout(filepath.Join(dir, "damaged")); err != nil {
		t.Fatal(err)
	}
	fat(t, filepath.Join(dir, "new"))
	for _, tc := range []struct {
		target string
		flags  []string
	}{
		{"dir:folder", nil},
		{"oci:layout:v1", nil},
		{"oci:library:v1", []string{"--dest-compress-format", "zstd", "--dest-compress"}},
		{"oci-archive:own.tar:v1", nil},
		{"oci-archive:library.tar:v1", []string{"--dest-compress-format", "zstd", "--dest-compress"}},
	} {
		t.Run(tc.target, func(t *testing.T) {
			transport, rest, _ := strings.Cut(tc.target, ":")
			target := transport + ":" + filepath.Join(dir, rest)
			seed := func() string {
				code, out, errs := berth(t, "inspect", "--config", target)
				if code != 0 {
					t.Fatalf("the image cannot be read: %s", errs)
				}
				for _, s := range []string{"old", "fat"} {
					if strings.Contains(out, `"SEED=`+s+`"`) || strings.Contains(out, "SEED="+s) {
						return s
					}
				}
				return out
			}
			copied := func(from string, flags ...string) (int, string) {
				code, _, errs := berth(t, append(append([]string{"copy"}, flags...), "oci:"+filepath.Join(dir, from)+":v1", target)...)
				return code, errs
			}
			if code, errs := copied("old", tc.flags...); code != 0 {
				t.Fatal(errs)
			}
			if code, errs := copied("damaged", tc.flags...); code == 0 || !strings.Contains(errs, "igest") && !strings.Contains(errs, "checksum") {
				t.Errorf("a damaged source: exit code %d, %s", code, errs)
			}
			if s := seed(); s != "old" {
				t.Errorf("after a damaged source it is %s", s)
			}
			// No file may become larger than 256 KiB, and the layer is.
			args := append(append([]string{"--insecure-policy", "copy"}, tc.flags...), "oci:"+filepath.Join(dir, "new")+":v1", target)
			cmd := exec.Command("sh", append([]string{"-c", `ulimit -f 512 && exec "$@"`, "sh", berthBinary(t)}, args...)...)
			text, err := cmd.CombinedOutput()
			if err == nil || bytes.Contains(text, []byte("goroutine ")) || !bytes.Contains(text, []byte("space")) && !bytes.Contains(text, []byte("too large")) {
				t.Errorf("a full disk: %v, %s", err, text)
			}
			if s := seed(); s != "old" {
				t.Errorf("after a full disk it is %s", s)
			}
			if code, errs := copied("new", tc.flags...); code != 0 {
				t.Fatal(errs)
			}
			if s := seed(); s != "fat" {
				t.Errorf("once there is room it is %s", s)
			}
			path, _, _ := strings.Cut(filepath.Join(dir, rest), ":")
			for _, pattern := range []string{path + "/.new-*", path + "/.index.json.*", filepath.Dir(path) + "/." + filepath.Base(path) + ".*", path + ".partial*"} {
				if left, err := filepath.Glob(pattern); err != nil || len(left) > 0 {
					t.Errorf("left behind: %v, %v", left, err)
				}
			}
		})
	}
	t.Run("docker-archive", func(t *testing.T) {
		name := filepath.Join(dir, "docker.tar")
		args := []string{"--insecure-policy", "copy", "oci:" + filepath.Join(dir, "new") + ":v1", "docker-archive:" + name + ":team/app:v1"}
		cmd := exec.Command("sh", append([]string{"-c", `ulimit -f 512 && exec "$@"`, "sh", berthBinary(t)}, args...)...)
		if text, err := cmd.CombinedOutput(); err == nil || bytes.Contains(text, []byte("goroutine ")) {
			t.Errorf("%v, %s", err, text)
		}
		if _, err := os.Stat(name); !os.IsNotExist(err) {
			t.Errorf("a part of an archive is left: %v", err)
		}
		if code, _, errs := berth(t, args[1:]...); code != 0 {
			t.Error(errs)
		}
	})
}

// A list that cannot be pushed as a whole leaves what was in a local target, and one that can takes its place.
func TestOldListStays(t *testing.T) {
	dir, _ := sandbox(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"old", "new", "damaged"} {
		if err := writeImage(at(name), name); err != nil {
			t.Fatal(err)
		}
	}
	for list, images := range map[string][]string{"first": {"old"}, "second": {"new"}, "broken": {"new", "damaged"}} {
		args := []string{"manifest", "create", list}
		for _, i := range images {
			args = append(args, "oci:"+at(i)+":v1")
		}
		if code, _, errs := berth(t, args...); code != 0 {
			t.Fatal(errs)
		}
	}
	if err := damageLayout(at("damaged")); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"dir:" + at("folder"), "oci:" + at("layout") + ":v1", "oci-archive:" + at("one.tar") + ":v1"} {
		t.Run(strings.SplitN(target, ":", 2)[0], func(t *testing.T) {
			there := func() string {
				t.Helper()
				code, out, errs := berth(t, "manifest", "raw", target)
				if code != 0 {
					t.Fatalf("there is no index: %s", errs)
				}
				return out
			}
			push := func(list string) int {
				code, _, _ := berth(t, "manifest", "push", "-q", list, target)
				return code
			}
			if push("first") != 0 {
				t.Fatal("the first push failed")
			}
			old := there()
			if push("broken") == 0 {
				t.Error("a list with a damaged image was pushed")
			}
			if now := there(); now != old {
				t.Errorf("after a push that failed there is %s", now)
			}
			if code, _, errs := berth(t, "copy", "-q", "--all", target, "oci:"+at("check-"+target[:3])+":v1"); code != 0 {
				t.Errorf("what was there is not whole any more: %s", errs)
			}
			if push("second") != 0 || there() == old {
				t.Error("a good list did not take its place")
			}
		})
	}
}

// A blob of the right size and other bytes in a layout is not taken for the one of its name, whoever copies; where the copy does not need
// it, it stays what it was.
func TestDamagedTarget(t *testing.T) {
	dir, _ := sandbox(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	fat(t, at("image"))
	for name, flags := range map[string][]string{"own": nil, "library": {"--format", "oci"}, "shared": {"--dest-shared-blob-dir", at("blobs")}} {
		t.Run(name, func(t *testing.T) {
			target, blobs := at(name), filepath.Join(at(name), "blobs")
			if name == "shared" {
				blobs = at("blobs")
			}
			copied := func() {
				t.Helper()
				if code, _, errs := berth(t, append(append([]string{"copy", "-q"}, flags...), "oci:"+at("image")+":v1", "oci:"+target+":v1")...); code != 0 {
					t.Fatal(errs)
				}
			}
			copied()
			var largest string
			var size int64
			all, err := filepath.Glob(blobs + "/sha256/*")
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range all {
				if info, err := os.Stat(f); err == nil && info.Size() > size {
					largest, size = f, info.Size()
				}
			}
			f, err := os.OpenFile(largest, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte("damaged"), size/2); err != nil {
				t.Fatal(err)
			}
			other := filepath.Join(filepath.Dir(largest), strings.Repeat("0", 64))
			if err := errors.Join(f.Close(), os.WriteFile(other, []byte("of nobody"), 0o644)); err != nil {
				t.Fatal(err)
			}
			copied()
			if body, err := os.ReadFile(largest); err != nil || sum(body) != filepath.Base(largest) {
				t.Errorf("the blob is still damaged: %v", err)
			}
			if body, err := os.ReadFile(other); err != nil || string(body) != "of nobody" {
				t.Errorf("another one is %q, %v", body, err)
			}
			if left, err := filepath.Glob(blobs + "/sha256/.*"); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// fat is an image whose first layer has a megabyte that nothing compresses, and the label of its name.
func fat(t *testing.T, dir string) {
	t.Helper()
	random := rand.NewChaCha8([32]byte{1})
	if err := writeImageOf(dir, "fat", func(i int) string {
		b := make([]byte, 1<<20)
		_, _ = random.Read(b) // never fails
		return string(b)
	}); err != nil {
		t.Fatal(err)
	}
}

// berthBinary is this test binary under the name that makes it be berth; see TestMain.
func berthBinary(t *testing.T) string {
	t.Helper()
	name, err := exec.LookPath("berth")
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// manifestHex is the digest of the only image of a layout, without its algorithm.
func manifestHex(t testing.TB, dir string) string {
	t.Helper()
	p, err := layout.FromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	index, err := p.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	return m.Manifests[0].Digest.Hex
}
