package interop_test

import (
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/berth-registry/berth/internal/testkit"
)

const (
	largeLayer = 2 << 30
	// peakMemory is the bound of issue 2 on resident memory under large pushes and pulls.
	peakMemory = 200 << 20
)

// TestLargeLayer pushes a layer of 2 GiB as it is made, so that nobody knows its digest before its last byte, checks
// it by reading it all back, and copies it out. berthd must not need memory for it.
func TestLargeLayer(t *testing.T) {
	if testing.Short() {
		t.Skip("moves 6 GiB")
	}
	data := t.TempDir()
	testkit.RequireDisk(t, data, 4*largeLayer)
	r := startRegistry(t, testkit.Options{Data: data, Env: []string{"BERTH_ANONYMOUS=delete"}})
	crane := newClient(t, "crane", r)
	app := r.host + "/team/large:1"

	// Random bytes: nothing on the way can make them smaller.
	layer := io.LimitReader(rand.New(rand.NewSource(1)), largeLayer)
	crane.pipe(t, layer, "append", "--new_layer", "-", "--new_tag", app)
	if size := folderSize(t, filepath.Join(r.Data, "blobs")); size < largeLayer {
		t.Errorf("%d bytes are stored, want at least %d", size, int64(largeLayer))
	}
	skopeo := newClient(t, "skopeo", r)
	out := t.TempDir()
	skopeo.run(t, "copy", "docker://"+app, "dir:"+out)
	if size := folderSize(t, out); size < largeLayer {
		t.Errorf("%d bytes were pulled, want at least %d", size, int64(largeLayer))
	}
	// Into another repository without its bytes: 2 GiB must not be stored twice.
	skopeo.run(t, "copy", "docker://"+app, "docker://"+r.host+"/other/large:1")
	if size := folderSize(t, r.Data); size > largeLayer+largeLayer/4 {
		t.Errorf("%d bytes are stored after the copy, want one layer", size)
	}

	// Uploaded again, by a client that knows the digest, to a berthd that has nothing to mount from.
	second := openRegistry(t)
	skopeo.trust(t, second)
	skopeo.run(t, "copy", "dir:"+out, "docker://"+second.host+"/team/large:1")
	_, _, first := r.manifest(t, "team/large", "1")
	_, _, copied := second.manifest(t, "team/large", "1")
	mustEqual(t, "digest of the copy", copied, first)

	for _, d := range []*registry{r, second} {
		peak := peakRSS(t, d.PID())
		t.Logf("berthd used %d MiB of memory at its peak", peak>>20)
		if peak > peakMemory {
			t.Errorf("berthd used %d MiB of memory at its peak, want at most %d", peak>>20, peakMemory>>20)
		}
	}
}

func folderSize(t testing.TB, dir string) (size int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if os.IsNotExist(err) { // an upload that ended meanwhile
			return nil
		}
		size += info.Size()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return size
}

// peakRSS reads the most resident memory that a process has had, in bytes.
func peakRSS(t testing.TB, pid int) int64 {
	t.Helper()
	status := readFile(t, filepath.Join("/proc", strconv.Itoa(pid), "status"))
	match := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if match == nil {
		t.Fatalf("no VmHWM in:\n%s", status)
	}
	kib, err := strconv.ParseInt(string(match[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}
