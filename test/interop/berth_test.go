package interop_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

// What is asked of the image tool before it does anything (ux.md §F, CLI breadth).
const (
	toolSize  = 60 << 20
	toolStart = 30 * time.Millisecond
)

// newBerth is the image tool as a client, in a home of its own, beside whatever else lives there.
func newBerth(t testing.TB, trusted ...*registry) *client {
	t.Helper()
	c := &client{name: "berth", bin: testkit.BuildBerth(t), home: shortDir(t), within: commandTime}
	for _, r := range trusted {
		c.trust(t, r)
	}
	return c
}

// TestBerthStarts bounds the size of the tool, and how long it takes to say what it can do. The best of many counts: the
// machine has other things to do.
func TestBerthStarts(t *testing.T) {
	berth := newBerth(t)
	info, err := os.Stat(berth.bin)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > toolSize {
		t.Errorf("berth has %d bytes, want at most %d", info.Size(), int64(toolSize))
	}
	best := time.Hour
	for range 20 {
		cmd := exec.Command(berth.bin, "--help")
		cmd.Env = userEnv(berth.home)
		start := time.Now()
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(start))
	}
	t.Logf("%d MB, %s", info.Size()>>20, best.Round(100*time.Microsecond))
	if best > toolStart {
		t.Errorf("berth --help took %s at best, want %s", best, toolStart)
	}
}

// TestBerthAndSkopeo has each read what the other wrote, everywhere, and say the same about it.
func TestBerthAndSkopeo(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	skopeo, berth := newClient(t, "skopeo", r), newBerth(t, r)
	app := "docker://" + r.host + "/team/app"
	img := ociImage(t, "a")
	layout := "oci:" + ociLayout(t, img) + ":v1"
	dir := t.TempDir()
	for name, pair := range map[string][2]*client{"berth": {berth, skopeo}, "skopeo": {skopeo, berth}} {
		writer, reader := pair[0], pair[1]
		writer.run(t, "copy", layout, app+":"+name)
		_, _, digest := r.manifest(t, "team/app", name)
		mustEqual(t, "digest of what "+name+" copied", digest, digestOf(t, img))
		for _, place := range []string{"dir:" + filepath.Join(dir, name), "oci:" + filepath.Join(dir, name+"-oci") + ":v1",
			"oci-archive:" + filepath.Join(dir, name+".oci.tar") + ":v1", "docker-archive:" + filepath.Join(dir, name+".tar") + ":app:v1"} {
			writer.run(t, "copy", app+":"+name, place)
			back := app + ":" + name + "-back"
			reader.run(t, "copy", place, back)
			if !strings.HasPrefix(place, "docker-archive:") { // which is another form
				_, _, digest := r.manifest(t, "team/app", name+"-back")
				mustEqual(t, "digest by way of "+place, digest, digestOf(t, img))
			}
		}
	}
	multi := "oci:" + ociLayout(t, multiArch(t, "m")) + ":v1"
	skopeo.run(t, "copy", "--all", multi, app+":multi")
	_, _, want := r.manifest(t, "team/app", "multi")
	berth.run(t, "copy", "--all", app+":multi", "docker://"+r.host+"/other/app:multi")
	_, _, got := r.manifest(t, "other/app", "multi")
	mustEqual(t, "digest of the index", got, want)

	for _, args := range [][]string{{"inspect", app + ":berth"}, {"inspect", "--no-tags", app + ":multi"}, {"inspect", "--config", app + ":berth"},
		{"inspect", "--override-arch", "arm64", "--override-variant", "v8", app + ":multi"}, {"list-tags", app}} {
		mustSayTheSame(t, skopeo.run(t, args...), berth.run(t, args...))
	}
	for _, args := range [][]string{{"inspect", "--raw", app + ":multi"}, {"inspect", "--raw", "--config", app + ":berth"},
		{"inspect", "--format", "{{.Name}} {{.Digest}} {{.Os}}", app + ":berth"}, {"manifest-digest", filepath.Join(dir, "berth", "manifest.json")}} {
		mustEqual(t, strings.Join(args, " "), berth.run(t, args...), skopeo.run(t, args...))
	}
	missing := []string{"inspect", app + ":missing"}
	if s, b := skopeo.refused(t, missing...), berth.refused(t, missing...); s.code != 2 && s.code != 1 || b.code != 2 {
		t.Errorf("exit codes %d and %d of an image that is not there", s.code, b.code)
	}
	berth.run(t, "delete", app+":berth")
	r.absent(t, "team/app", "skopeo")
}

// mustSayTheSame compares two JSON objects by the members of the first: a newer program may say more.
func mustSayTheSame(t testing.TB, want, got string) {
	t.Helper()
	var old, now map[string]any
	if err := json.Unmarshal([]byte(want), &old); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(got), &now); err != nil {
		t.Fatal(err)
	}
	for name, value := range old {
		if !reflect.DeepEqual(now[name], value) {
			t.Errorf("%s is %v, and skopeo says %v", name, now[name], value)
		}
	}
}

// TestBerthLogin shows that a login by one is a login of all.
func TestBerthLogin(t *testing.T) {
	t.Parallel()
	r := guardedRegistry(t)
	berth := newBerth(t, r)
	skopeo, podman := newClient(t, "skopeo", r), newPodman(t, r)
	skopeo.home, podman.home = berth.home, berth.home
	layout := "oci:" + ociLayout(t, ociImage(t, "a")) + ":v1"
	if refused := berth.refused(t, "copy", layout, "docker://"+r.host+"/library/app:1"); !strings.Contains(refused.stderr, "berth login") {
		t.Error(refused)
	}
	mustEqual(t, "answer", berth.pipe(t, strings.NewReader(password+"\n"), "login", "-u", "admin", "--password-stdin", r.host), "Login Succeeded!")
	mustEqual(t, "user by podman", podman.run(t, "login", "--get-login", r.host), "admin")
	skopeo.run(t, "copy", layout, "docker://"+r.host+"/library/app:1")
	skopeo.run(t, "logout", r.host)
	berth.refused(t, "copy", layout, "docker://"+r.host+"/library/app:2")
	skopeo.pipe(t, strings.NewReader(password+"\n"), "login", "-u", "admin", "--password-stdin", r.host)
	berth.run(t, "copy", layout, "docker://"+r.host+"/library/app:2")
}

// TestBerthAndPodman exchanges images with podman and buildah through a registry, which they trust by berth trust, and
// through their storage.
func TestBerthAndPodman(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	berth := newBerth(t)
	podman, buildah := newPodman(t), newContainerTool(t, "buildah")
	podman.home, buildah.home = berth.home, berth.home
	app := r.host + "/team/app"
	loadPodman(t, podman, "a", app+":1")
	podman.refused(t, "push", app+":1") // nobody trusts the registry yet
	if refused := berth.refused(t, "list-tags", "docker://"+app); !strings.Contains(refused.stderr, "berth trust "+r.host) {
		t.Error(refused)
	}
	mustContain(t, berth.run(t, "trust", "--yes", r.host), filepath.Join(berth.home, ".config/containers/certs.d", r.host, "ca.crt"))
	podman.run(t, "push", app+":1")
	var inspected struct{ Digest string }
	if err := json.Unmarshal([]byte(berth.run(t, "inspect", "docker://"+app+":1")), &inspected); err != nil {
		t.Fatal(err)
	}
	_, _, digest := r.manifest(t, "team/app", "1")
	mustEqual(t, "digest", inspected.Digest, digest)

	berth.run(t, "copy", "oci:"+ociLayout(t, ociImage(t, "b"))+":v1", "docker://"+app+":2")
	podman.run(t, "pull", "--quiet", app+":2")
	buildah.run(t, "pull", "--quiet", app+":2")

	needRoot(t, "containers-storage:")
	storage := "containers-storage:[vfs@" + podman.flags[1] + "+" + podman.flags[3] + "]"
	berth.run(t, "copy", storage+app+":1", "docker://"+app+":from-storage")
	berth.run(t, "copy", "docker://"+app+":2", storage+"localhost/by-berth:1")
	mustContain(t, podman.run(t, "images", "--format", "{{.Repository}}:{{.Tag}}"), "localhost/by-berth:1")
}
