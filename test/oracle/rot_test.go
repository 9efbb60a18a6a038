package oracle

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/berth-registry/berth/internal/testkit/stand"
)

// Content rots: a byte of it changes behind the registry's back, or all of it is gone. What the model says of rows is as
// true as before. But where content rots (world.rotten) an answer may break off or be 404, and a manifest that needs it may be
// refused, until it was found and pushed again. Never may it be a clean 200 with other bytes.
//
// Content begins to rot while the walkers stand still, and has been repaired before the round ends, so that all is certain
// again when it is compared.

// rots says whether content was spoiled and, as far as is known, not repaired since.
func (w *world) rots(digest string) bool {
	_, rots := w.rotten[digest]
	return rots
}

// rot is a round in which content rots, walkers walk over it, a scrub finds it, and pushes repair it.
func (r *run) rot() {
	r.spoil(4)
	id, err := r.fleet.Client(0).StartJob("fsck") // beside the walkers, which find and repair some of it themselves
	if err != nil {
		r.t.Fatal(err)
	}
	r.each("walk", func(w *walker) error { return w.walk(stepsOfRound) })
	if err := r.fleet.Client(0).AwaitJob(id); err != nil {
		r.t.Fatal(err)
	}
	r.count(scrubbed)

	fresh := r.spoil(4) // nobody pushes or deletes any more: each of these has to be found
	unread := fresh[len(fresh)/2:]
	read := slices.DeleteFunc(sorted(r.rotten), func(d string) bool { return slices.Contains(unread, d) })
	r.each("read what rots", func(w *walker) error { return w.readAll(read) })
	report, err := r.fleet.Client(r.rnd.IntN(walkers)).Check()
	if err != nil {
		r.t.Fatal(err)
	}
	r.count(scrubbed)
	r.journal.event("all content was checked: %+v", report)
	damaged := r.damage(report, fresh)
	for range unread {
		r.count(foundByScrub)
	}
	r.each("ask for what is damaged", func(w *walker) error { return w.askDamaged(damaged) })
	r.repair(damaged)
}

// spoil has up to n things rot that are needed, and that no collection takes meanwhile.
func (r *run) spoil(n int) (spoiled []string) {
	needed := r.needed()
	r.rnd.Shuffle(len(needed), func(i, j int) { needed[i], needed[j] = needed[j], needed[i] })
	for _, digest := range needed {
		content, large := r.content(digest)
		if len(spoiled) == n || r.rots(digest) {
			continue
		}
		// Of a store that has nothing of what it should have it would be believed that it is not mounted.
		gone := r.rnd.IntN(4) == 0 && (!large || !r.lostLarge())
		if !r.fleet.Rot(digest, content, gone) {
			continue
		}
		r.rotten[digest] = gone
		spoiled = append(spoiled, digest)
		r.journal.event("%s rots, all of it gone: %v", r.name(digest), gone)
		switch _, manifest := r.manifests[digest]; {
		case manifest:
			r.count(rottedManifest)
		case large:
			r.count(rottedLarge)
		default:
			r.count(rottedSmall)
		}
	}
	return spoiled
}

// content is what the registry should have of a digest, and whether it is too large for the database.
func (u *universe) content(digest string) (content []byte, large bool) {
	if m, ok := u.manifests[digest]; ok {
		return m.Body, false
	}
	return u.sizes[digest].Bytes(), u.sizes[digest].Size > inlineBytes
}

// lostLarge says that a large blob is gone.
func (r *run) lostLarge() bool {
	for digest, gone := range r.rotten {
		if _, large := r.content(digest); large && gone {
			return true
		}
	}
	return false
}

// needed is everything that some repository must have, in an order that a seed repeats.
func (r *run) needed() []string {
	needed := map[string]bool{}
	r.repositories(func(_ *walker, _ string, repo *repository) {
		for d := range repo.manifests {
			if repo.manifest(d) != must {
				continue
			}
			needed[d] = true
			for _, b := range r.manifests[d].Blobs {
				needed[b] = true
			}
		}
	})
	return sorted(needed)
}

// repositories calls each for every repository.
func (r *run) repositories(each func(w *walker, name string, repo *repository)) {
	for _, w := range r.walkers {
		for _, name := range w.repos {
			each(w, name, w.now[name])
		}
	}
}

// readAll reads what rots from all repositories of the walker.
func (w *walker) readAll(digests []string) error {
	for _, repo := range w.repos {
		for _, d := range digests {
			if err := w.readRotten(repo, d); err != nil {
				return err
			}
		}
	}
	return nil
}

// readRotten reads content that rots: whatever is answered, it must not be clean and wrong.
func (w *walker) readRotten(repo, digest string) error {
	_, err := w.ask(op{
		what: "GET " + w.name(digest), repo: repo, keys: []string{digest}, success: http.StatusOK, breaks: true,
		call: func(c *stand.Client) stand.Answer { return c.Get(repo, w.path(digest), digest) },
		judge: func(_ *repository, a stand.Answer) string {
			switch {
			case a.Status == http.StatusOK && stand.DigestOf(a.Body) != digest:
				return fmt.Sprintf("is a clean 200 with %d bytes that are not its own", len(a.Body))
			case a.Status != http.StatusOK && a.Status != http.StatusNotFound:
				return "should be the content, 404, or break off"
			}
			return ""
		},
	})
	return err
}

// path is where content is asked for.
func (u *universe) path(digest string) string {
	if _, ok := u.manifests[digest]; ok {
		return "manifests"
	}
	return "blobs"
}
