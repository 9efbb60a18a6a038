package collect

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/internal/testkit/stand"
)

// settleWithin is how long garbage may stay after the last client has gone, above what grace, trash and abandoned uploads
// are kept for.
const settleWithin = 30 * time.Second

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
	live, small := r.live()
	began := time.Now()
	for {
		v := r.fleet.Weigh()
		wrong := r.judge(v, live, small)
		if wrong == "" {
			r.t.Logf("%s: %.1f s after the last push: %s; live: %d blobs with %d bytes, %d bytes of small content",
				r.fleet, time.Since(began).Seconds(), v, len(live), sum(live), sum(small))
			break
		}
		if time.Since(began) > settleWithin {
			r.t.Errorf("%s after the last push %s; %s\n%s", settleWithin, wrong, v, r.leftovers(v, live))
			break
		}
		time.Sleep(200 * time.Millisecond)
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
		for _, b := range blobs {
			if a := to.PushAtOnce("race/shared", b.Digest, b.Bytes()); a.Status != http.StatusCreated {
				r.t.Errorf("push of a shared blob: %s", a)
			}
		}
		if a := to.PutManifest("race/shared", fmt.Sprint("s", i), m); a.Status != http.StatusCreated {
			r.t.Errorf("push of a shared image: %s", a)
		}
		r.keep("race/shared", m)
	}
	r.deleteTheRest()
}

// deleteTheRest deletes images that a client had not deleted yet when the race, or the replica that it spoke to, ended.
func (r *race) deleteTheRest() {
	a := r.fleet.Client(0).Do(http.MethodGet, "/v2/_catalog?n=1000", nil, nil)
	for _, repo := range repositories(a.Body) {
		for {
			tags, _ := r.fleet.Client(0).Tags(repo)
			gone := 0
			for _, tag := range tags {
				a := r.fleet.Client(0).Head(repo, "manifests", tag)
				if _, kept := r.kept[image{repo, a.Digest()}]; kept {
					continue
				}
				if d := r.fleet.Client(0).Delete(repo, "manifests", a.Digest()); d.Status != http.StatusAccepted {
					r.t.Errorf("delete of %s@%s: %s", repo, a.Digest(), d)
					return
				}
				gone++
			}
			if gone == 0 {
				break
			}
		}
	}
}

// live is the content that the images need: in the store, and small enough for the database.
func (r *race) live() (large, small map[string]int64) {
	large, small = map[string]int64{}, map[string]int64{}
	sizes := map[string]int64{}
	for i, m := range r.kept {
		small[m.Digest] = int64(len(m.Body))
		for _, b := range m.Blobs {
			if sizes[b] == 0 {
				sizes[b] = size(r.fleet.Client(0), i.repo, b)
			}
			if sizes[b] > inlineBytes {
				large[b] = sizes[b]
			} else {
				small[b] = sizes[b]
			}
		}
	}
	return large, small
}

const inlineBytes = 32 << 10 // berth.limits.inline_bytes

func size(c *stand.Client, repo, blob string) int64 {
	return int64(len(c.Get(repo, "blobs", blob).Body))
}

func repositories(catalog []byte) []string {
	var page struct{ Repositories []string }
	_ = json.Unmarshal(catalog, &page) // an empty list shows in what is left
	return page.Repositories
}

func sum(sizes map[string]int64) (n int64) {
	for _, size := range sizes {
		n += size
	}
	return n
}

// judge says what is wrong with the volume.
func (r *race) judge(v stand.Volume, live, small map[string]int64) string {
	rows, err := r.fleet.Rows(`SELECT (SELECT COUNT(*) FROM blob), (SELECT COUNT(*) FROM upload), (SELECT COUNT(*) FROM manifest), (SELECT COUNT(*) FROM trash),
		(SELECT COUNT(*) FROM edge WHERE manifest_id NOT IN (SELECT id FROM manifest)),
		(SELECT COUNT(*) FROM repo_blob rb WHERE NOT EXISTS (SELECT 1 FROM edge e WHERE e.child = rb.digest AND e.repo_id = rb.repo_id))`)
	if err != nil {
		return err.Error()
	}
	want := []string{fmt.Sprint(len(live) + len(small)), "0", fmt.Sprint(len(r.kept)), "0", "0", "0"}
	needed, has := sum(live), v.Bytes()
	switch {
	case has > needed+needed/100:
		return fmt.Sprintf("the store has %d bytes and %d are live", has, needed)
	case has < needed:
		return fmt.Sprintf("the store has %d bytes, and %d are live: something was lost", has, needed)
	case v.Pending > 0:
		return fmt.Sprintf("%d multipart uploads are open", v.Pending)
	case v.Inline != sum(small):
		return fmt.Sprintf("the database has %d bytes of small content and %d are live", v.Inline, sum(small))
	case !slices.Equal(rows[0], want):
		return fmt.Sprintf("rows of blobs, uploads, manifests, trash, stray edges and stray links are %q and should be %q", rows[0], want)
	}
	return ""
}

// leftovers names some of what is there and should not be.
func (r *race) leftovers(v stand.Volume, live map[string]int64) (text string) {
	for _, name := range slices.Sorted(maps.Keys(v.Content)) {
		known := false
		for d := range live {
			known = known || strings.Contains(name, d[len("sha256:"):])
		}
		if !known && len(text) < 2000 {
			text += fmt.Sprintf("left: %s, %d bytes\n", name, v.Content[name])
		}
	}
	rows, err := r.fleet.Rows(`SELECT digest, state, lease_until, inline, stored FROM blob WHERE lease_until > 0 ORDER BY lease_until LIMIT 10`)
	return text + fmt.Sprintf("queue: %q, %v", rows, err)
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
