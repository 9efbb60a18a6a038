package oracle

import (
	"fmt"
	"net/http"
	"time"

	"github.com/berth-registry/berth/internal/testkit/stand"
)

// rollBack points a tag where it pointed before, or at a manifest that is there or in the trash.
func (w *walker) rollBack(repo string) error {
	tag, body, to := some(w, w.tags), map[string]string{}, ""
	if w.rnd.IntN(3) == 0 {
		to = w.anyManifest()
		body["digest"] = to
	}
	target := func(r *repository) string {
		if to == "" {
			return r.before(tag)
		}
		return to
	}
	keys := []string{tag}
	if d := target(w.now[repo]); d != "" {
		keys = append(keys, w.keys(d)...)
	}
	_, err := w.ask(op{
		what: fmt.Sprintf("roll back tag %s to %q", tag, w.name(to)), kind: rolledBack, repo: repo, keys: keys, success: http.StatusOK,
		call: func(c *stand.Client) stand.Answer {
			return c.Operate(http.MethodPost, "repositories/"+repo+"/-/tags/"+tag+"/rollback", body)
		},
		judge: func(r *repository, a stand.Answer) string {
			return oneOf(a, http.StatusOK, r.has(target(r)))
		},
		effect: func(r *repository, _ time.Time) {
			d := target(r)
			r.bringBack(w.universe, d)
			r.move(tag, d)
		},
	})
	return err
}

// has says whether a manifest is there, or can be brought back.
func (r *repository) has(digest string) bool {
	_, binned := r.trash[digest]
	return binned || r.manifests[digest]
}

// restoreTag puts a deleted tag back.
func (w *walker) restoreTag(repo string) error {
	tag := some(w, w.tags)
	_, err := w.ask(op{
		what: "restore tag " + tag, kind: restoredTag, repo: repo, keys: []string{tag}, success: http.StatusOK,
		call: func(c *stand.Client) stand.Answer {
			return c.Operate(http.MethodPost, "repositories/"+repo+"/-/tags/"+tag+"/restore", map[string]string{})
		},
		judge: func(r *repository, a stand.Answer) string {
			if r.tags[tag] != "" {
				if a.Status != http.StatusConflict {
					return "should be 409: the tag is there"
				}
				return ""
			}
			return oneOf(a, http.StatusOK, r.has(r.before(tag)))
		},
		effect: func(r *repository, _ time.Time) {
			d := r.before(tag)
			r.bringBack(w.universe, d)
			r.move(tag, d)
		},
	})
	return err
}

// someTrash is a manifest that can mostly be brought back.
func (w *walker) someTrash(repo string) string {
	all := sorted(w.now[repo].trash)
	if len(all) == 0 || w.rnd.IntN(8) == 0 {
		return w.anyManifest()
	}
	return some(w, all)
}

// restoreManifest brings a manifest back, with its tags or without.
func (w *walker) restoreManifest(repo string) error {
	digest, tags := w.someTrash(repo), w.rnd.IntN(2) == 0
	_, err := w.ask(op{
		what: fmt.Sprintf("restore %s, with its tags: %v", w.name(digest), tags), kind: restoredTrash, repo: repo,
		keys: append(w.keys(digest), w.now[repo].trash[digest]...), success: http.StatusOK,
		call: func(c *stand.Client) stand.Answer {
			return c.Operate(http.MethodPost, "repositories/"+repo+"/-/trash/"+digest+"/restore", map[string]bool{"tags": tags})
		},
		judge: func(r *repository, a stand.Answer) string {
			return r.judgeTrash(digest, a)
		},
		effect: func(r *repository, _ time.Time) {
			if r.loose[digest] {
				r.settle(digest, false)
			}
			of := r.trash[digest]
			r.bringBack(w.universe, digest)
			for _, tag := range of {
				if tags && r.tags[tag] == "" {
					r.move(tag, digest)
				}
			}
		},
	})
	return err
}

// purge deletes a manifest of the trash for good, so that collection may take what only it needed.
func (w *walker) purge(repo string) error {
	digest := w.someTrash(repo)
	_, err := w.ask(op{
		what: "purge " + w.name(digest), kind: purged, repo: repo, keys: w.keys(digest), success: http.StatusOK,
		call: func(c *stand.Client) stand.Answer {
			return c.Operate(http.MethodDelete, "repositories/"+repo+"/-/trash/"+digest, nil)
		},
		judge: func(r *repository, a stand.Answer) string {
			return r.judgeTrash(digest, a)
		},
		effect: func(r *repository, _ time.Time) {
			if r.loose[digest] {
				r.settle(digest, false)
			}
			delete(r.trash, digest)
		},
	})
	return err
}

// judgeTrash judges what is done to something in the trash. A manifest that collection may have put there is not there when
// that is said.
func (r *repository) judgeTrash(digest string, a stand.Answer) string {
	_, binned := r.trash[digest]
	if !binned && r.manifest(digest) == may {
		if a.Status == http.StatusNotFound {
			r.settle(digest, true)
			return ""
		}
		binned = true
	}
	return oneOf(a, http.StatusOK, binned)
}

// askThen asks where a tag pointed at the time of one of the entries of its history, and just before.
func (w *walker) askThen(repo string) error {
	tag := some(w, w.tags)
	entries, _ := w.fleet.Client(0).History(repo, tag)
	if len(entries) == 0 {
		return nil
	}
	i := w.rnd.IntN(len(entries))
	for at, want := range map[time.Time]string{entries[i].Since: entries[i].Digest, entries[i].Since.Add(-time.Microsecond): older(entries, i)} {
		if _, err := w.ask(op{
			what: fmt.Sprintf("tag %s at %s", tag, at.Format(time.RFC3339Nano)), kind: lookedBack, repo: repo, keys: []string{tag}, success: http.StatusOK,
			call: func(c *stand.Client) stand.Answer {
				return c.Operate(http.MethodGet, "repositories/"+repo+"/-/tags/"+tag+"?at="+at.UTC().Format("2006-01-02T15:04:05.000000Z"), nil)
			},
			judge: func(_ *repository, a stand.Answer) string {
				var e stand.TagEntry
				if want == "" {
					return oneOf(a, http.StatusOK, false)
				}
				if err := a.Decode(&e); err != nil || e.Digest != want {
					return fmt.Sprintf("should be %s", w.name(want))
				}
				return ""
			},
		}); err != nil {
			return err
		}
	}
	return nil
}

// older is what a tag pointed at before an entry.
func older(entries []stand.TagEntry, i int) string {
	if i+1 == len(entries) {
		return ""
	}
	return entries[i+1].Digest
}
