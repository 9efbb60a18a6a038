package collect

import (
	"fmt"
	"net/http"
	"time"

	"github.com/berth-registry/berth/internal/testkit/stand"
)

// settleWithin is how long garbage may stay after the last client has gone. It is gone in two seconds, unless a replica died
// or a bucket failed in the middle of a deletion: then its claim holds for a while, and collection comes back after a minute;
// or a replica died while it moved a blob under its digest: then the announcement of the move holds for two minutes.
const settleWithin = 180 * time.Second

// settle proves that everything that was kept is whole, and that nothing else is left.
func (r *race) settle() {
	r.t.Helper()
	r.finalImages()
	s := r.fleet.Settings
	s.UploadAge = time.Second // the uploads that were left count as abandoned
	r.fleet.Change(s)
	for i := range r.fleet.Replicas {
		r.fleet.Restart(i)
	}
	live := r.live()
	v, took, wrong := r.fleet.AwaitNoGarbage(live, settleWithin)
	if wrong != "" {
		r.t.Errorf("%s after the last push: %s", took.Round(time.Second), wrong)
	} else {
		r.t.Logf("%s: %s after the last push: %s; live: %s", r.fleet, took.Round(100*time.Millisecond), v, live)
	}
	r.whole()
}

// finalImages gives what is shared an end that is known.
func (r *race) finalImages() {
	c := &client{race: r}
	for i := range sharedTags {
		m, blobs := c.shared(i)
		to := r.fleet.Client(i)
		if i%2 == 0 {
			if a := to.Delete("race/shared", "manifests", m.Digest); a.Status != http.StatusAccepted && a.Status != http.StatusNotFound {
				r.t.Errorf("delete of a shared image: %s", a)
			}
			continue
		}
		for pushed := false; !pushed && !r.t.Failed(); {
			began := time.Now()
			for _, b := range blobs {
				if a := to.PushAtOnce("race/shared", b.Digest, b.Bytes()); a.Status != http.StatusCreated {
					r.t.Errorf("push of a shared blob: %s", a)
				}
			}
			pushed = time.Since(began) <= promised/2 // else a machine that is too slow tries again
		}
		if a := to.PutManifest("race/shared", fmt.Sprint("s", i), m); a.Status != http.StatusCreated {
			r.t.Errorf("push of a shared image: %s", a)
		}
		r.keep("race/shared", m)
	}
	r.deleteTheRest()
}

// deleteTheRest deletes images that a client had not deleted yet when the race, or the replica that it spoke to, ended. Some
// have lost their tag, so only the database knows all of them.
func (r *race) deleteTheRest() {
	rows, err := r.fleet.Rows(`SELECT r.name, m.digest FROM manifest m JOIN repository r ON r.id = m.repo_id`)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, row := range rows {
		if _, kept := r.kept[image{row[0], row[1]}]; kept {
			continue
		}
		if a := r.fleet.Client(0).Delete(row[0], "manifests", row[1]); a.Status != http.StatusAccepted {
			r.t.Errorf("delete of %s@%s: %s", row[0], row[1], a)
		}
	}
}

// live is the content that the images need.
func (r *race) live() stand.Live {
	l := stand.NewLive()
	l.Manifests = len(r.kept)
	for i, m := range r.kept {
		l.Add(m.Digest, int64(len(m.Body)))
		for _, b := range m.Blobs {
			l.Add(b, int64(len(r.fleet.Client(0).Get(i.repo, "blobs", b).Body)))
		}
	}
	return l
}

// whole pulls every image that was kept, through every replica.
func (r *race) whole() {
	r.t.Helper()
	seen := map[string]bool{}
	for i, m := range r.kept {
		for n := range r.fleet.Replicas {
			c := r.fleet.Client(n)
			if a := c.Get(i.repo, "manifests", m.Digest); a.Status != http.StatusOK || stand.DigestOf(a.Body) != m.Digest {
				r.t.Errorf("image %s@%s was acknowledged and never deleted: %s", i.repo, m.Digest, a)
			}
			for _, b := range m.Blobs {
				if key := fmt.Sprint(n, i.repo, b); !seen[key] {
					seen[key] = true
					if a := c.Get(i.repo, "blobs", b); a.Status != http.StatusOK || stand.DigestOf(a.Body) != b {
						r.t.Errorf("image %s@%s is broken: blob %s: %.200s", i.repo, m.Digest, b, a)
					}
				}
			}
		}
	}
}
