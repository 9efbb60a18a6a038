package oracle

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/berth-registry/berth/internal/testkit/stand"
)

// Content rots: a byte of it changes behind the registry's back, or all of it is gone. What the model says of rows is as
// true as before. But of content that rots (world.rotten) an answer may break off or be 404, and a manifest that needs it may be refused, until
// it was found and pushed again. Never may it be a clean 200 with other bytes.
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
	read := fresh[:len(fresh)/2]
	r.each("read what rots", func(w *walker) error { return w.readAll(read) })
	report, err := r.fleet.Client(r.rnd.IntN(walkers)).Check()
	if err != nil {
		r.t.Fatal(err)
	}
	r.count(scrubbed)
	r.journal.event("all content was checked: %+v", report)
	damaged := r.damage(report, fresh)
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
		if r.rotten == nil {
			r.rotten = map[string]bool{}
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

// readAll reads what rots wherever the walker has it.
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

// damage holds the list of damage against what rots. fresh is what began to while nobody walked: all of it must be named.
// What else was spoiled is either named or right again, because somebody pushed it. It returns what is damaged.
func (r *run) damage(report stand.Checked, fresh []string) (damaged []string) {
	list, err := r.fleet.Client(r.rnd.IntN(walkers)).Damages()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, d := range list {
		damaged = append(damaged, d.Digest)
		gone, rots := r.rotten[d.Digest]
		least, most := r.tagsThatNeed(d.Digest)
		switch {
		case !rots:
			r.t.Errorf("%s is named as damaged, and nobody touched it\n%s", r.name(d.Digest), r.journal.of(d.Digest))
		case slices.Contains(fresh, d.Digest) && d.Missing != gone:
			r.t.Errorf("%s is named as missing: %v, and should be: %v", r.name(d.Digest), d.Missing, gone)
		case !subset(least, d.Tags) || !subset(d.Tags, most):
			r.t.Errorf("%s is needed by the tags %q, says the list of damage; it should say %q\n%s", r.name(d.Digest), d.Tags, most, r.journal.of(d.Digest))
		}
	}
	for digest := range r.rotten {
		if slices.Contains(damaged, digest) {
			r.count(foundByScrub)
			continue
		}
		small, err := r.fleet.Small(digest)
		if err != nil {
			r.t.Fatal(err)
		}
		if slices.Contains(fresh, digest) || small != nil && stand.DigestOf(small) != digest {
			r.t.Errorf("%s rots, and the scrub has not found it: %+v\n%s", r.name(digest), report, r.journal.of(digest))
		}
		delete(r.rotten, digest) // it was pushed again, or collected
	}
	if report.Unchecked > 0 || report.Broken > 0 || report.Damaged+report.Missing < int64(len(fresh)) {
		r.t.Errorf("the report of the scrub is %+v; %d things began to rot before it", report, len(fresh))
	}
	r.stopIfFailed()
	return damaged
}

// tagsThatNeed are the tags, as repository:tag in order, that cannot be pulled whole without some content: those of which that is certain,
// and those that may need it, because of manifests that may be in the trash.
func (r *run) tagsThatNeed(digest string) (least, most []string) {
	r.repositories(func(_ *walker, name string, repo *repository) {
		for tag, d := range repo.tags {
			is := repo.leadsTo(r.universe, d, digest)
			if is == must {
				least = append(least, name+":"+tag)
			}
			if is != mustNot {
				most = append(most, name+":"+tag)
			}
		}
	})
	slices.Sort(least)
	slices.Sort(most)
	return least, most
}

// leadsTo says whether a manifest cannot be pulled whole without some content.
func (r *repository) leadsTo(u *universe, manifest, digest string) certainty {
	m, is := u.manifests[manifest], r.manifest(manifest)
	if is == mustNot || manifest == digest || slices.Contains(m.Blobs, digest) || slices.Contains(m.Children, digest) {
		return is
	}
	least := mustNot
	for _, child := range m.Children {
		least = max(least, min(is, r.leadsTo(u, child, digest)))
	}
	return least
}

func subset(some, all []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}

// askDamaged asks for everything that is damaged in the ways that vouch for something: none may.
func (w *walker) askDamaged(damaged []string) error {
	for _, repo := range w.repos {
		for _, d := range damaged {
			names := append([]string{d}, w.now[repo].tagsOf(d)...)
			for _, name := range names {
				for _, method := range []string{http.MethodHead, http.MethodGet} {
					if err := w.denied(method, repo, d, name); err != nil {
						return err
					}
				}
			}
			if err := w.declined(repo, d); err != nil {
				return err
			}
		}
	}
	return nil
}

// denied asks for damaged content by its digest or a tag.
func (w *walker) denied(method, repo, digest, name string) error {
	_, err := w.ask(op{
		what: fmt.Sprintf("%s %.20s, which is damaged %s", method, name, w.name(digest)), repo: repo, keys: []string{digest, name}, success: http.StatusNotFound,
		call: func(c *stand.Client) (a stand.Answer) {
			for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
				a = c.Do(method, "/v2/"+repo+"/"+w.path(digest)+"/"+name, nil, nil)
				if a.Status == http.StatusNotFound || w.fleet.Make.Replicas == 1 || time.Since(began) > settleWithin {
					return a
				}
			}
		},
	})
	return err
}

// declined asks to mount a damaged blob: the client must be told to push it.
func (w *walker) declined(repo, digest string) error {
	if _, manifest := w.manifests[digest]; manifest {
		return nil
	}
	a, err := w.ask(op{
		what: "mount damaged " + w.name(digest), repo: repo, keys: []string{digest}, success: http.StatusAccepted,
		call: func(c *stand.Client) stand.Answer { return c.Mount(repo, digest, w.repos[0]) },
	})
	if err != nil {
		return err
	}
	return w.cancel(repo, digest, a)
}

// repair pushes what is damaged again, each to some repository: it must then be there for all.
func (r *run) repair(damaged []string) {
	slices.SortFunc(damaged, func(a, b string) int { // a manifest needs its blobs
		return len(r.manifests[a].Digest) - len(r.manifests[b].Digest)
	})
	for _, d := range damaged {
		w := r.walkers[r.rnd.IntN(len(r.walkers))]
		repo, push := w.someRepo(), w.pushWhole
		if _, manifest := r.manifests[d]; !manifest {
			push = func(repo, d string) error { return w.pushBlob(repo, r.sizes[d]) }
		}
		if err := push(repo, d); err != nil {
			r.t.Errorf("repair: %v", err)
		}
		r.count(repaired)
		delete(r.rotten, d)
	}
	r.stopIfFailed()
	left, err := r.fleet.Client(0).Damages()
	if err != nil || len(left) > 0 {
		r.t.Fatalf("after everything was pushed again there is damage: %+v, %v", left, err)
	}
	clear(r.rotten)
}
