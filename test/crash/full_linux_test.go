package crash

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-registry/berth/internal/testkit"
)

// A full disk is a clear answer to who pushes, and nothing else: pulls, deletes and restarts go on, failed uploads give
// their space back, and when there is room again pushes work without anybody's help.
func TestDiskFull(t *testing.T) {
	for name, c := range map[string]struct {
		mount func(t *testing.T, dir string)
		fill  func(f *full)
	}{
		"tmpfs":      {mountTmpfs, (*full).fill},
		"tmpfsSmall": {mountTmpfs, (*full).fillSmall},
		"ext4":       {mountExt4, (*full).fill},
		"ext4Small":  {mountExt4, (*full).fillSmall},
	} {
		t.Run(name, func(t *testing.T) {
			if os.Getenv(inNamespace) == "" {
				againInNamespace(t)
				return
			}
			dir := filepath.Join(t.TempDir(), "data")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			c.mount(t, dir)
			fillAndFree(t, dir, c.fill)
		})
	}
}

const (
	diskSize    = 128 << 20
	ballastSize = 32 << 20
	pieceSize   = 3 << 20
)

// full is the state of one run: a daemon on a small disk, and what it has acknowledged.
type full struct {
	*testing.T
	d     *testkit.Daemon
	c     *client
	dir   string
	seed  uint64
	blobs []string   // digests
	tags  []manifest // tag "v<index>"
}

const fullRepo = "full/app"

func fillAndFree(t *testing.T, dir string, fill func(f *full)) {
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, ballastSize), 0o600); err != nil {
		t.Fatal(err)
	}
	d := testkit.Start(t, testkit.Options{Data: dir, Env: []string{"BERTH_ANONYMOUS=delete"}})
	f := &full{T: t, d: d, c: newClient(d.URL), dir: dir, seed: rand.Uint64()}
	defer f.c.close()
	for range 5 {
		f.pushImage()
	}

	fill(f)
	f.refuses()
	f.smallWrites()
	f.reads()
	f.givesSpaceBack()
	f.deletes()
	f.restarts()
	f.fill() // a start empties the database's log
	f.refuses()

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	f.recovers()
	f.reads()
}

// piece is content that nobody has seen.
func (f *full) piece(size int) (string, []byte) {
	f.seed++
	data := content{f.seed, size}.bytes()
	return digestOf(data), data
}

func (f *full) pushImage() {
	f.Helper()
	var ds [2]descriptor
	for i, size := range []int{500, 300_000} {
		digest, data := f.piece(size)
		a, err := f.c.pushInTwo(fullRepo, digest, data)
		f.want(a, err, http.StatusCreated, "push of a blob")
		f.blobs = append(f.blobs, digest)
		ds[i] = descriptor{"application/vnd.oci.image.layer.v1.tar", digest, size}
	}
	m := imageOf(fmt.Sprint("image ", len(f.tags)), ds[0], ds[1:])
	a, err := f.c.putManifest(fullRepo, fmt.Sprint("v", len(f.tags)), m)
	f.want(a, err, http.StatusCreated, "push of a manifest")
	f.tags = append(f.tags, m)
}

func (f *full) want(a answer, err error, status int, what string) {
	f.Helper()
	if err != nil || a.status != status {
		f.Fatalf("%s: %s, %v; want %d", what, a, err, status)
	}
}

// fill pushes large blobs, and then small ones, until each is refused.
func (f *full) fill() {
	for _, size := range []int{pieceSize, 100_000} {
		for pushed := 0; ; pushed += size {
			if pushed > diskSize {
				f.Fatalf("%d bytes were acknowledged on a disk of %d", pushed, diskSize)
			}
			digest, data := f.piece(size)
			a, err := f.c.pushAtOnce(fullRepo, digest, data)
			if err == nil && a.status == http.StatusCreated {
				f.blobs = append(f.blobs, digest)
				continue
			}
			f.wantFull(a, err, "push that does not fit")
			break
		}
	}
}

// fillSmall pushes what is kept in the database, manifests too, until it is refused: what keeps deletes and starts going
// must not be filled with it.
func (f *full) fillSmall() {
	const size = 25_000
	for pushed := 0; ; pushed += 2 * size {
		if pushed > diskSize {
			f.Fatalf("%d bytes of small content were acknowledged on a disk of %d", pushed, diskSize)
		}
		digest, data := f.piece(size)
		a, err := f.c.pushAtOnce(fullRepo, digest, data)
		if err != nil || a.status != http.StatusCreated {
			f.wantFull(a, err, "push of a small blob that does not fit")
			break
		}
		f.blobs = append(f.blobs, digest)
		m := imageOf(strings.Repeat(fmt.Sprint(pushed, " "), size/10), descriptor{"application/octet-stream", digest, size}, []descriptor{})
		a, err = f.c.putManifest(fullRepo, "small", m)
		if err != nil || a.status != http.StatusCreated {
			f.wantFull(a, err, "push of a manifest that does not fit")
			break
		}
	}
	a, err := f.c.delete(fullRepo, "manifests", "small")
	f.want(a, err, http.StatusAccepted, "delete of a tag that filled the disk")
	if free := f.free(); free < diskSize/20 {
		f.Errorf("small content has left %d bytes of %d free", free, diskSize)
	}
}

// wantFull is a 507 that a person and a client understand.
func (f *full) wantFull(a answer, err error, what string) {
	f.Helper()
	f.want(a, err, http.StatusInsufficientStorage, what)
	var body struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal(a.body, &body); err != nil || len(body.Errors) != 1 || body.Errors[0].Code == "" {
		f.Fatalf("%s: the body is no OCI error: %s", what, a)
	}
	message := body.Errors[0].Message
	if !strings.Contains(message, "space") || strings.Contains(message, f.dir) {
		f.Fatalf("%s: the message %q does not say what to do, or shows the inside", what, message)
	}
	if kind := a.header.Get("Content-Type"); !strings.HasPrefix(kind, "application/json") {
		f.Fatalf("%s: the error is of type %s", what, kind)
	}
}

// refuses pushes in every way that content can arrive in.
func (f *full) refuses() {
	f.Helper()
	digest, data := f.piece(pieceSize)
	a, err := f.c.pushAtOnce(fullRepo, digest, data)
	f.wantFull(a, err, "POST with the digest")
	a, err = f.c.pushInTwo(fullRepo, digest, data)
	f.wantFull(a, err, "POST and PUT")
	location, a, err := f.c.begin(fullRepo, "")
	if err == nil && a.status == http.StatusAccepted {
		_, a, err = f.c.patch(location, 0, data)
	}
	f.wantFull(a, err, "PATCH")
	if a, err := f.c.head(fullRepo, "blobs", digest); err != nil || a.status != http.StatusNotFound {
		f.Fatalf("a refused blob is there: %s, %v", a, err)
	}
	if location != "" {
		a, err = f.c.do(http.MethodDelete, location, nil, nil)
		if err != nil || a.status != http.StatusNoContent && a.status != http.StatusNotFound {
			f.Fatalf("cancel of a refused upload: %s, %v", a, err)
		}
	}
}

// smallWrites may fit where large ones do not, in what is kept for the database; they are taken whole or refused as
// clearly as large ones.
func (f *full) smallWrites() {
	f.Helper()
	for range 50 {
		digest, data := f.piece(700)
		a, err := f.c.pushInTwo(fullRepo, digest, data)
		if err == nil && a.status == http.StatusCreated {
			f.blobs = append(f.blobs, digest)
			continue
		}
		f.wantFull(a, err, "push of a small blob")
	}
	// A tag that moves to what is there.
	a, err := f.c.putManifest(fullRepo, "v2", f.tags[3])
	if err == nil && a.status == http.StatusCreated {
		f.tags[2] = f.tags[3]
		return
	}
	f.wantFull(a, err, "move of a tag")
}

func (f *full) reads() {
	f.Helper()
	w := newWriter(0, 1, 0)
	w.repo = fullRepo
	for _, digest := range f.blobs {
		w.verifyBlob(f.c, digest, []bool{true}, f.Errorf)
	}
	var names []string
	for i, m := range f.tags {
		if m.digest == "" {
			continue // deleted
		}
		names = append(names, fmt.Sprint("v", i))
		if got := resolveTag(f.c, fullRepo, fmt.Sprint("v", i), f.Errorf); got != m.digest {
			f.Errorf("tag v%d is %s, want %s", i, got, m.digest)
		}
		w.verifyAnswer(f.c, fullRepo, "manifests", m.digest, m.body, []bool{true}, f.Errorf)
	}
	w.verifyTagList(f.c, names, f.Errorf)
	if f.Failed() {
		f.FailNow()
	}
}

func (f *full) free() int64 {
	f.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(f.dir, &st); err != nil {
		f.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize
}

// givesSpaceBack fails pushes of more than what is free altogether: after them as much is free as before.
func (f *full) givesSpaceBack() {
	f.Helper()
	const slack = 2 << 20 // the database writes down that uploads came and went
	before := f.free()
	for i := range 20 {
		digest, data := f.piece(2 * pieceSize)
		a, err := f.c.pushInTwo(fullRepo, digest, data)
		f.wantFull(a, err, fmt.Sprint("failing push ", i))
	}
	// An upload may be tidied up after the answer.
	deadline := time.Now().Add(30 * time.Second)
	for before-f.free() > slack {
		if time.Now().After(deadline) {
			f.Fatalf("%d bytes were free before 20 failed pushes and %d after", before, f.free())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (f *full) deletes() {
	f.Helper()
	a, err := f.c.delete(fullRepo, "manifests", "v0")
	f.want(a, err, http.StatusAccepted, "delete of a tag on a full disk")
	a, err = f.c.delete(fullRepo, "manifests", f.tags[1].digest)
	f.want(a, err, http.StatusAccepted, "delete of a manifest on a full disk")
	for _, ref := range []string{"v0", "v1", f.tags[1].digest} {
		a, err := f.c.get(fullRepo, "manifests", ref)
		f.want(a, err, http.StatusNotFound, "GET of a deleted "+ref)
	}
	f.tags[0].digest, f.tags[1].digest = "", ""
}

// restarts stops and kills the daemon: it comes back both times, and has lost nothing.
func (f *full) restarts() {
	f.Helper()
	for _, kill := range []bool{false, true} {
		if kill {
			f.d.Kill()
		}
		start := time.Now()
		f.d.Restart(f.T)
		if took := time.Since(start); took > readyWithin {
			f.Errorf("ready %s after a restart on a full disk", took)
		}
		f.c.close()
		f.c = newClient(f.d.URL)
		f.reads()
	}
}

// recovers pushes again once there is room.
func (f *full) recovers() {
	f.Helper()
	for range 4 {
		digest, data := f.piece(pieceSize)
		a, err := f.c.pushInTwo(fullRepo, digest, data)
		f.want(a, err, http.StatusCreated, "push when space was freed")
		f.blobs = append(f.blobs, digest)
	}
	f.pushImage()
}

// inNamespace is set in the environment of the process that may mount.
const inNamespace = "BERTH_TEST_IN_NAMESPACE"

// againInNamespace runs this test once more in a process with a mount namespace of its own: what it mounts is nowhere
// else and ends with it, however it ends. A user who is not root becomes root of a user namespace, where the system
// allows that.
func againInNamespace(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.v", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), inNamespace+"=1", "BERTH_TEST_BERTHD="+testkit.BuildBerthd(t))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if cmd.Process == nil {
		testkit.Missing(t, "no mount namespace: %v", err)
	}
	t.Logf("%s", out)
	switch {
	case err != nil:
		t.Errorf("in its own mount namespace: %v", err)
	case strings.Contains(string(out), "--- SKIP"):
		t.Skip("skipped in its own mount namespace, see above")
	case !strings.Contains(string(out), "--- PASS: "+t.Name()):
		t.Error("in its own mount namespace the test did not run")
	}
}

func mountTmpfs(t *testing.T, dir string) {
	mountPrivate(t)
	if err := unix.Mount("berth-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d", diskSize)); err != nil {
		testkit.Missing(t, "no tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // else it ends with the namespace
}

// mountExt4 is the file system that most stores are on; it decides about space later than tmpfs does.
func mountExt4(t *testing.T, dir string) {
	mountPrivate(t)
	image := filepath.Join(t.TempDir(), "image")
	testkit.RequireDisk(t, filepath.Dir(image), 2*diskSize)
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, diskSize); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"mkfs.ext4", "-q", "-m", "0", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			testkit.Missing(t, "no ext4 on a loop device: %s: %v\n%s", args[0], err, out)
		}
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

func mountPrivate(t *testing.T) {
	t.Helper()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		testkit.Missing(t, "no private mounts: %v", err)
	}
}
