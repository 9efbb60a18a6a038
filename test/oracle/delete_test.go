package oracle

import (
	"net/http"
	"time"

	"github.com/berth-registry/berth/internal/testkit/stand"
)

// deleteTag deletes a tag, mostly one that there is.
func (w *walker) deleteTag(repo string) error {
	tag := some(w, w.tags)
	keys := []string{tag}
	if d := w.now[repo].tags[tag]; d != "" {
		keys = append(keys, d)
	}
	_, err := w.ask(op{
		what: "delete tag " + tag, kind: deletedTag, repo: repo, keys: keys, success: http.StatusAccepted,
		call: func(c *stand.Client) stand.Answer { return c.Delete(repo, "manifests", tag) },
		judge: func(r *repository, a stand.Answer) string {
			return oneOf(a, http.StatusAccepted, r.tags[tag] != "")
		},
		effect: func(r *repository, _ time.Time) { r.move(tag, "") },
	})
	return err
}

// oneOf says what is wrong with an answer that has to be the status when it is done, and else 404.
func oneOf(a stand.Answer, status int, there bool) string {
	switch {
	case there && a.Status != status:
		return "should be done"
	case !there && a.Status != http.StatusNotFound:
		return "should be 404"
	}
	return ""
}

// deleteManifest deletes by digest, mostly something that there is; an index may need it, and a tag point at it.
func (w *walker) deleteManifest(repo string) error {
	digest := w.present(repo)
	if digest == "" || w.rnd.IntN(8) == 0 {
		digest = w.anyManifest()
	}
	_, err := w.ask(op{
		what: "delete " + w.name(digest), kind: deletedDigest, repo: repo, keys: append(w.keys(digest), w.now[repo].tagsOf(digest)...), success: http.StatusAccepted,
		call: func(c *stand.Client) stand.Answer { return c.Delete(repo, "manifests", digest) },
		judge: func(r *repository, a stand.Answer) string {
			if a.Status == http.StatusNotFound && r.manifest(digest) == may {
				r.settle(digest, false)
				return ""
			}
			return oneOf(a, http.StatusAccepted, r.manifests[digest])
		},
		effect: func(r *repository, _ time.Time) { r.drop(digest) },
	})
	return err
}

// deleteBlob takes a blob out of a repository. One that a manifest needs is kept.
func (w *walker) deleteBlob(repo string) error {
	digest := some(w, w.blobs).Digest
	if have := sorted(w.now[repo].blobs); len(have) > 0 && w.rnd.IntN(6) > 0 {
		digest = some(w, have)
	}
	_, err := w.ask(op{
		what: "delete " + w.name(digest), kind: deletedBlob, repo: repo, keys: []string{digest}, success: http.StatusAccepted,
		call: func(c *stand.Client) stand.Answer { return c.Delete(repo, "blobs", digest) },
		judge: func(r *repository, a stand.Answer) string {
			is := r.blob(w.universe, digest, a.Ended)
			switch {
			case a.Status == http.StatusMethodNotAllowed && r.needs(w.universe, digest) == may:
			case r.needs(w.universe, digest) == must:
				if a.Status != http.StatusMethodNotAllowed {
					return "should be 405: a manifest needs it"
				}
			case a.Status == http.StatusNotFound && is != must:
				delete(r.blobs, digest)
			case a.Status == http.StatusNotFound:
				return "denies it, and " + r.why(w.universe, digest, a)
			case a.Status != http.StatusAccepted || is == mustNot:
				return "should be 202, or 404 when it is not there"
			}
			return ""
		},
		effect: func(r *repository, _ time.Time) { delete(r.blobs, digest) },
	})
	return err
}
