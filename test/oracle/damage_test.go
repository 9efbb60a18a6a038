package oracle

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/berth-registry/berth/internal/testkit/stand"
)

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

// tagsThatNeed are the tags, as repository:tag in order, that cannot be pulled whole without some content: those of which that
// is certain, and all that may, because collection may have put a manifest of an index into the trash.
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

// repair pushes what is damaged again, each to some repository: it must then be there for all. A manifest comes after the
// blobs that it needs.
func (r *run) repair(damaged []string) {
	isManifest := func(d string) bool { _, ok := r.manifests[d]; return ok }
	for _, manifests := range []bool{false, true} {
		for _, d := range damaged {
			if isManifest(d) != manifests {
				continue
			}
			w := r.walkers[r.rnd.IntN(len(r.walkers))]
			if err := w.pushAgain(d); err != nil {
				r.t.Errorf("repair: %v", err)
			}
			r.count(repaired)
			delete(r.rotten, d)
		}
	}
	r.stopIfFailed()
	left, err := r.fleet.Client(0).Damages()
	if err != nil || len(left) > 0 {
		r.t.Fatalf("after everything was pushed again there is damage: %+v, %v", left, err)
	}
}

// pushAgain pushes content in an ordinary way.
func (w *walker) pushAgain(digest string) error {
	if _, ok := w.manifests[digest]; ok {
		return w.pushWhole(w.someRepo(), digest)
	}
	return w.pushBlob(w.someRepo(), w.sizes[digest])
}
