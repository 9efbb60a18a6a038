package crash

import (
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

// A disk that is full of what nobody needs empties itself: collection needs no room to begin with, and the space is there
// for the next push without a restart and without anybody's help.
func TestDiskFullIsCollected(t *testing.T) {
	for name, mount := range map[string]func(*testing.T, string){"tmpfs": mountTmpfs, "ext4": mountExt4} {
		t.Run(name, func(t *testing.T) {
			if os.Getenv(inNamespace) == "" {
				againInNamespace(t)
				return
			}
			dir := filepath.Join(t.TempDir(), "data")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			mount(t, dir)
			fillAndCollect(t, dir)
		})
	}
}

func fillAndCollect(t *testing.T, dir string) {
	const grace = 3 * time.Second
	d := testkit.Start(t, testkit.Options{Data: dir, Env: []string{
		"BERTH_ANONYMOUS=delete", "BERTH_GC_GRACE=" + grace.String(), "BERTH_GC_INTERVAL=200ms", "BERTH_TRASH_HOLD=1s",
	}})
	f := &full{T: t, d: d, c: newClient(d.URL), dir: dir, seed: rand.Uint64()}
	defer f.c.close()
	for range 5 {
		f.pushImage()
	}
	kept := f.blobs
	empty := f.free()

	for round := range 2 {
		var last string
		for _, size := range []int{pieceSize, 100_000, 20_000} { // files, and what is in the database
			for pushed := 0; ; pushed += size {
				digest, data := f.piece(size)
				a, err := f.c.pushAtOnce(fullRepo, digest, data)
				if err != nil || a.status != http.StatusCreated {
					f.wantFull(a, err, "push that does not fit")
					break
				}
				if last = digest; pushed > 2*diskSize {
					t.Fatalf("%d bytes were acknowledged on a disk of %d within the grace", pushed, diskSize)
				}
			}
		}
		if round == 1 { // an image goes too, while there is no room
			a, err := f.c.delete(fullRepo, "manifests", f.tags[1].digest)
			f.want(a, err, http.StatusAccepted, "delete of a manifest on a full disk")
			kept = append(kept[:2:2], kept[4:]...)
			f.tags[1].digest = ""
		}
		const slack = 8 << 20 // the log of the database, which is used again, and some of its pages
		gone := func() bool {
			a, err := f.c.get(fullRepo, "blobs", last) // a HEAD would be a promise
			return err == nil && a.status == http.StatusNotFound
		}
		time.Sleep(grace)
		for deadline := time.Now().Add(20 * time.Second); f.free() < empty-slack || !gone(); time.Sleep(100 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("round %d: %d bytes were free before what nobody needs was pushed, and %d are after its grace", round, empty, f.free())
			}
		}
		f.blobs = kept
		f.reads()
	}
	f.recovers()
}
