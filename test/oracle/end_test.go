package oracle

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/internal/testkit/stand"
)

// goneWithin is how long garbage may stay after the last request.
const goneWithin = 30 * time.Second

// end empties the trash, abandons all uploads, and proves that what nothing needs goes: from the answers, from the database
// and from the store. What is needed stays.
func (r *run) end() {
	r.t.Helper()
	r.emptyTrash()
	s := r.fleet.Settings
	s.UploadAge = time.Second
	r.fleet.Change(s)
	for i := range r.fleet.Replicas {
		r.fleet.Restart(i)
	}
	r.journal.event("the trash is emptied, all replicas are started again, uploads are abandoned after %s", s.UploadAge)
	live := stand.NewLive()
	for _, w := range r.walkers {
		for _, repo := range w.now {
			for d := range repo.manifests {
				live.Manifests++
				live.Add(d, int64(len(r.manifests[d].Body)))
				for _, b := range r.manifests[d].Blobs {
					live.Add(b, int64(r.sizes[b].Size))
				}
			}
		}
	}
	v, took, wrong := r.fleet.AwaitNoGarbage(live, goneWithin)
	if wrong != "" {
		r.t.Errorf("%s after the last request: %s", took.Round(time.Second), wrong)
		r.tellOf(wrong)
	}
	r.each("compare at the end", func(w *walker) error {
		for _, repo := range w.now {
			for d := range repo.blobs {
				if wrong == "" && repo.needs(r.universe, d) == mustNot {
					delete(repo.blobs, d) // from now on it must not be there
				}
			}
		}
		return w.verify()
	})
	r.t.Logf("%s; 0 differences; garbage was gone after %s: %s", r, took.Round(100*time.Millisecond), v)
}

// emptyTrash does so until collection puts nothing more there: what is in the trash takes others with it.
func (r *run) emptyTrash() {
	for again := true; again; {
		again = false
		for _, w := range r.walkers {
			for _, repo := range w.repos {
				a := r.fleet.Client(w.id).Operate(http.MethodDelete, "repositories/"+repo+"/-/trash", nil)
				if a.Status != http.StatusOK && a.Status != http.StatusNotFound {
					r.t.Fatalf("empty the trash of %s: %s", repo, a)
				}
				clear(w.now[repo].trash)
			}
		}
		r.each("compare with an empty trash", (*walker).verifyEmptied)
		for _, w := range r.walkers {
			for _, repo := range w.now {
				again = again || len(repo.trash) > 0
			}
		}
	}
}

// verifyEmptied is verify when what collection has put into the trash may have been deleted from there.
func (w *walker) verifyEmptied() error {
	for _, repo := range w.repos {
		r := w.now[repo]
		for _, d := range sorted(r.loose) {
			a := w.fleet.Client(w.id).Get(repo, "manifests", d)
			if a.Status == http.StatusNotFound {
				r.settle(d, false)
				if list, _ := w.fleet.Client(w.id).Trash(repo); !slices.ContainsFunc(list, func(t stand.Trashed) bool { return t.Digest == d }) {
					delete(r.trash, d)
				}
			}
		}
		r.review(w.universe)
	}
	return w.verify()
}

// tellOf tells what was done to the blobs that a text names.
func (r *run) tellOf(text string) {
	for _, w := range r.walkers {
		for _, repo := range w.repos {
			for _, b := range r.blobs {
				if strings.Contains(text, repo+" has "+b.Digest) {
					r.t.Logf("%s in %s:\n%s", r.name(b.Digest), repo, r.journal.about(w.id, repo, []string{b.Digest}))
				}
			}
		}
	}
}
