package oracle

import (
	"fmt"
	"net/http"
	"time"

	"github.com/berth-registry/berth/internal/testkit/stand"
)

// step is one random operation, of one request or of several.
func (w *walker) step() error {
	repo := w.someRepo()
	switch n := w.rnd.IntN(100); {
	case n < 14:
		return w.pushBlob(repo, some(w, w.blobs))
	case n < 17:
		return w.abandon(repo)
	case n < 25:
		_, err := w.head(repo, some(w, w.blobs).Digest)
		return err
	case n < 33:
		return w.mount(repo)
	case n < 51:
		return w.pushImage(repo)
	case n < 56:
		return w.put(repo, w.anyManifest(), w.someReference())
	case n < 62:
		return w.put(repo, some(w, w.indexes).Digest, some(w, w.tags))
	case n < 67:
		return w.pushReferrer(repo)
	case n < 76:
		return w.retag(repo)
	case n < 81:
		return w.deleteTag(repo)
	case n < 87:
		return w.deleteManifest(repo)
	case n < 91:
		return w.deleteBlob(repo)
	case n < 93:
		return w.rollBack(repo)
	case n < 94:
		return w.restoreTag(repo)
	case n < 96:
		return w.restoreManifest(repo)
	case n < 98:
		return w.purge(repo)
	case n < 99:
		return w.askThen(repo)
	default:
		return w.pull(repo)
	}
}

// someReference is a tag, or "" for a push by digest.
func (w *walker) someReference() string {
	if w.rnd.IntN(3) == 0 {
		return ""
	}
	return some(w, w.tags)
}

func (w *walker) anyManifest() string { return some(w, sorted(w.manifests)) }

// pushBlob pushes a blob in one of the ways that there are.
func (w *walker) pushBlob(repo string, b stand.Blob) error {
	data := b.Bytes()
	o := op{
		repo: repo, keys: []string{b.Digest}, success: http.StatusCreated,
		effect: func(r *repository, promised time.Time) { r.promise(b.Digest, promised) },
	}
	if w.rnd.IntN(3) == 0 {
		o.what, o.kind = "push at once "+w.name(b.Digest), pushedAtOnce
		o.call = func(c *stand.Client) stand.Answer { return c.PushAtOnce(repo, b.Digest, data) }
		_, err := w.ask(o)
		return err
	}
	location, err := w.begin(repo, b.Digest)
	if err != nil {
		return err
	}
	rest := data
	o.kind = pushedInTwo
	if w.rnd.IntN(2) == 0 {
		o.kind = pushedInChunks
		if location, rest, err = w.chunks(repo, b, location, len(data)); err != nil {
			return err
		}
	}
	o.what = fmt.Sprintf("finish an upload with %d bytes as %s", len(rest), w.name(b.Digest))
	o.call = func(c *stand.Client) stand.Answer { return c.Finish(location, b.Digest, rest) }
	_, err = w.ask(o)
	return err
}

func (w *walker) begin(repo, digest string) (location string, err error) {
	a, err := w.ask(op{
		what: "begin an upload of " + w.name(digest), repo: repo, keys: []string{digest}, success: http.StatusAccepted,
		call: func(c *stand.Client) stand.Answer { return c.Begin(repo) },
	})
	return a.Header.Get("Location"), err
}

// chunks sends some chunks of a blob, up to a length, each to another replica, and gives what is left.
func (w *walker) chunks(repo string, b stand.Blob, location string, upTo int) (next string, rest []byte, err error) {
	data := b.Bytes()
	for sent := 0; ; {
		n := min(1+w.rnd.IntN(len(data)), upTo-sent)
		if n == 0 || sent > 0 && w.rnd.IntN(3) == 0 {
			return location, data[sent:], nil
		}
		from, here := sent, location
		a, err := w.ask(op{
			what: fmt.Sprintf("send %d bytes of %s from %d on", n, w.name(b.Digest), sent), repo: repo, keys: []string{b.Digest}, success: http.StatusAccepted,
			call: func(c *stand.Client) stand.Answer { return c.Patch(here, from, data[from:from+n]) },
		})
		if err != nil {
			return "", nil, err
		}
		location, sent = a.Header.Get("Location"), sent+n
	}
}

// abandon begins an upload that nobody ends, or one that is cancelled.
func (w *walker) abandon(repo string) error {
	b := some(w, w.blobs)
	location, err := w.begin(repo, b.Digest)
	if err != nil {
		return err
	}
	if location, _, err = w.chunks(repo, b, location, b.Size); err != nil {
		return err
	}
	if w.rnd.IntN(2) == 0 {
		w.count(leftUpload)
		return nil
	}
	_, err = w.ask(op{
		what: "cancel the upload of " + w.name(b.Digest), kind: cancelled, repo: repo, keys: []string{b.Digest}, success: http.StatusNoContent,
		call: func(c *stand.Client) stand.Answer { return c.Do(http.MethodDelete, location, nil, nil) },
	})
	return err
}

// head asks for a blob as a client does that wants to skip its push: 200 is a promise.
func (w *walker) head(repo, digest string) (there bool, err error) {
	a, err := w.ask(op{
		what: "HEAD " + w.name(digest), kind: vouched, repo: repo, keys: []string{digest}, success: http.StatusOK,
		call:   func(c *stand.Client) stand.Answer { return w.settled(c, repo, digest) },
		judge:  w.judgeRead(digest),
		effect: func(r *repository, promised time.Time) { r.promise(digest, promised) },
	})
	return a.Status == http.StatusOK, err
}

// settled asks again where an answer contradicts what another replica did a moment ago, and which this one may not have
// heard of.
func (w *walker) settled(c *stand.Client, repo, digest string) stand.Answer {
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		a := c.Head(repo, "blobs", digest)
		if w.fleet.Make.Replicas == 1 || a.Status == 0 || time.Since(began) > settleWithin || w.judgeRead(digest)(w.now[repo], a) == "" {
			return a
		}
	}
}

func (w *walker) judgeRead(digest string) func(*repository, stand.Answer) string {
	return func(r *repository, a stand.Answer) string {
		is := r.blob(w.universe, digest, a.Ended)
		switch {
		case a.Status == http.StatusOK && is == mustNot:
			return "vouches for what was deleted, collected or never pushed"
		case a.Status == http.StatusNotFound && w.rots(digest): // put aside, or collected
			return ""
		case a.Status == http.StatusNotFound && is == must:
			return "denies it, and " + r.why(w.universe, digest, a)
		case a.Status == http.StatusNotFound:
			delete(r.blobs, digest)
			return ""
		case a.Status != http.StatusOK:
			return "should be 200 or 404"
		}
		return ""
	}
}

// mount takes a blob from the walker's other repository, or from wherever there is one.
func (w *walker) mount(repo string) error {
	from := some(w, w.repos)
	digest := some(w, w.blobs).Digest
	if have := sorted(w.now[from].blobs); len(have) > 0 && w.rnd.IntN(4) > 0 {
		digest = some(w, have)
	}
	source := from
	if w.rnd.IntN(5) == 0 {
		source = ""
	}
	a, err := w.ask(op{
		what: fmt.Sprintf("mount %s from %q", w.name(digest), source), kind: mounted, repo: repo, keys: []string{digest}, success: http.StatusCreated,
		call: func(c *stand.Client) stand.Answer { return c.Mount(repo, digest, source) },
		judge: func(_ *repository, a stand.Answer) string {
			is := w.now[from].blob(w.universe, digest, a.Ended)
			switch {
			case a.Status == http.StatusAccepted && !w.rots(digest) && is == must && w.now[from].blob(w.universe, digest, a.Began) == must:
				return "is no mount, although the source has it"
			case a.Status == http.StatusCreated && is == mustNot && source != "" && w.fleet.Make.Replicas == 1:
				return "mounts what the source does not have"
			case a.Status != http.StatusCreated && a.Status != http.StatusAccepted:
				return "should be 201 or 202"
			}
			return ""
		},
		effect: func(r *repository, promised time.Time) { r.promise(digest, promised) },
	})
	if err != nil || a.Status != http.StatusAccepted {
		return err
	}
	return w.cancel(repo, digest, a)
}

// cancel ends the upload that was begun in place of a mount.
func (w *walker) cancel(repo, digest string, declined stand.Answer) error {
	_, err := w.ask(op{
		what: "cancel the upload in place of a mount", repo: repo, keys: []string{digest}, success: http.StatusNoContent,
		call: func(c *stand.Client) stand.Answer {
			return c.Do(http.MethodDelete, declined.Header.Get("Location"), nil, nil)
		},
	})
	return err
}

// pushImage does what a client does: it asks for each blob, pushes or mounts those that are not there, and then pushes the
// manifest, which must not be refused.
func (w *walker) pushImage(repo string) error {
	return w.pushWhole(repo, some(w, w.images).Digest)
}

func (w *walker) pushReferrer(repo string) error {
	return w.pushWhole(repo, some(w, w.referrers).Digest)
}

func (w *walker) pushWhole(repo, manifest string) error {
	for _, d := range w.manifests[manifest].Blobs {
		there, err := w.head(repo, d)
		if err != nil {
			return err
		}
		if there {
			continue
		}
		if err := w.pushBlob(repo, w.sizes[d]); err != nil {
			return err
		}
	}
	ref := w.someReference()
	if m := w.manifests[manifest]; m.Subject != "" {
		ref = "" // a referrer is found by its subject
	}
	return w.put(repo, manifest, ref)
}

// put pushes a manifest, also one whose blobs are not all there: then it must be refused.
func (w *walker) put(repo, digest, tag string) error {
	m := w.manifests[digest]
	ref := tag
	if tag == "" {
		ref = digest
	}
	k := putManifest
	if r := w.now[repo]; tag != "" && r.tags[tag] != digest && r.manifests[digest] {
		k = movedTag
	}
	_, err := w.ask(op{
		what: fmt.Sprintf("put %s as %.20s", w.name(digest), ref), kind: k, repo: repo, keys: append(w.keys(digest), tag), success: http.StatusCreated,
		call: func(c *stand.Client) stand.Answer { return c.PutManifest(repo, ref, m) },
		judge: func(r *repository, a stand.Answer) string {
			least := must
			for _, b := range m.Blobs {
				least = min(least, r.blob(w.universe, b, a.Ended))
				if w.rots(b) {
					least = min(least, may)
				}
			}
			switch {
			case a.Status == http.StatusCreated && least == mustNot:
				return "takes a manifest whose blobs are not there"
			case a.Status == http.StatusNotFound && least == must:
				return "refuses a push although all blobs are there or promised"
			case a.Status != http.StatusCreated && a.Status != http.StatusNotFound:
				return "should be 201, or 404 when blobs are missing"
			}
			return ""
		},
		effect: func(r *repository, _ time.Time) {
			r.put(w.universe, digest)
			if tag != "" {
				r.move(tag, digest)
			}
		},
	})
	return err
}

// retag moves a tag to a manifest that is there.
func (w *walker) retag(repo string) error {
	digest := w.present(repo)
	if digest == "" {
		return w.pushImage(repo)
	}
	return w.put(repo, digest, some(w, w.tags))
}

// pull reads an image by tag as a client does, and finds all of it.
func (w *walker) pull(repo string) error {
	tags := sorted(w.now[repo].tags)
	if len(tags) == 0 {
		return nil
	}
	digest := w.now[repo].tags[some(w, tags)]
	for _, d := range w.manifests[digest].Blobs {
		if w.rots(d) {
			if err := w.readRotten(repo, d); err != nil {
				return err
			}
			continue
		}
		if _, err := w.ask(op{
			what: "GET " + w.name(d), kind: pulledBlob, repo: repo, keys: []string{d}, success: http.StatusOK,
			call: func(c *stand.Client) stand.Answer { return c.Get(repo, "blobs", d) },
			judge: func(_ *repository, a stand.Answer) string {
				if a.Status != http.StatusOK || stand.DigestOf(a.Body) != d {
					return "should be the blob, " + w.name(digest) + " needs it"
				}
				return ""
			},
		}); err != nil {
			return err
		}
	}
	return nil
}
