package cluster

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// writer pushes and deletes in a repository of its own, one request at a time, and compares what it reads with what it was
// told.
type writer struct {
	*ledger
	c      *client
	judge  *judge
	shelf  *shelf
	budget *budget
	repo   string
	rnd    *rand.Rand
	next   int
	busy   bool // the last step got no answer
}

const (
	smallest = 40_000 // above what goes into the database
	largest  = 12 << 20
	keepOpen = 4 // uploads that are begun and not ended
)

func (w *writer) name(kind string) string {
	w.next++
	return fmt.Sprintf("%s-%d", kind, w.next)
}

// step does one thing.
func (w *writer) step() {
	if w.busy {
		time.Sleep(100 * time.Millisecond)
		w.busy = false
	}
	switch n := w.rnd.IntN(100); {
	case n < 40:
		w.pushImage()
	case n < 55:
		w.moveTag()
	case n < 63:
		w.deleteTag()
	case n < 70:
		w.deleteManifest()
	case n < 76:
		w.deleteBlob()
	case n < 86:
		w.mount()
	default:
		w.leaveOpen()
	}
}

// pushImage pushes a config, some layers and a manifest, by tag or by digest.
func (w *writer) pushImage() {
	config, ok := w.pushBlob(content{w.rnd.Uint64(), 100 + w.rnd.IntN(2_000)})
	if !ok {
		return
	}
	config.MediaType = imageConfig
	var layers []descriptor
	for range 1 + w.rnd.IntN(3) {
		d, ok := w.pushBlob(w.someContent())
		if !ok {
			return
		}
		layers = append(layers, d)
	}
	m := imageOf(w.name(w.repo), config, layers...)
	if w.rnd.IntN(3) > 0 {
		w.put(w.someTag(), m, false)
		return
	}
	tag := w.name("kept")
	if w.put(tag, m, true) {
		for _, b := range m.blobs {
			w.blobs[b].kept = true
			w.shelf.offer(w.repo, b)
		}
		w.shelf.add(shelved{repo: w.repo, tag: tag, manifest: m, since: time.Now()})
	}
}

// someContent is a layer: mostly small, sometimes of more than one part.
func (w *writer) someContent() content {
	size := 1 + w.rnd.IntN(30_000) // into the database
	switch n := w.rnd.IntN(20); {
	case n == 0:
		size = 5<<20 + w.rnd.IntN(largest-5<<20)
	case n < 8:
		size = smallest + w.rnd.IntN(600_000)
	}
	if !w.budget.take(size) {
		size = 1 + w.rnd.IntN(2_000)
	}
	return content{w.rnd.Uint64(), size}
}

// pushBlob pushes a blob in one of the ways there are. ok says that it is surely there.
func (w *writer) pushBlob(c content) (d descriptor, ok bool) {
	data := c.bytes()
	d = descriptor{imageLayer, digestOf(data), c.size}
	w.contents[d.Digest] = c
	var a answer
	if w.rnd.IntN(2) == 0 && c.size < largest/2 {
		a = w.c.pushAtOnce(w.repo, d.Digest, data)
	} else {
		a = w.pushChunks(c, data, d.Digest)
	}
	if a.unsure() {
		w.blobs[d.Digest] = &thing{unsure: true}
		w.busy = true
		return d, false
	}
	if a.status != http.StatusCreated {
		w.judge.fault("%s: push of blob %s (%d bytes): %s", w.repo, d.Digest, c.size, a)
		return d, false
	}
	w.blobs[d.Digest] = &thing{there: true}
	w.sometimes(func() { w.expectBlob(d.Digest) })
	return d, true
}

// pushChunks sends a blob in pieces, each of which meets another replica. What gets no answer is gone on with from what the
// registry says that it has.
func (w *writer) pushChunks(c content, data []byte, digest string) answer {
	a := w.c.begin(w.repo, "")
	if a.status != http.StatusAccepted {
		return a
	}
	u := &upload{location: a.header.Get("Location"), content: c}
	pieces := 2 + w.rnd.IntN(4)
	for tries := 0; u.acked < len(data)-1; {
		end := min(u.acked+1+len(data)/pieces, len(data)-w.rnd.IntN(2))
		if a = w.patch(u, data, end); a.status == http.StatusAccepted {
			continue
		}
		if tries++; tries > 20 {
			return a
		}
		if !a.unsure() && a.status != http.StatusRequestedRangeNotSatisfiable && a.status != http.StatusConflict {
			return a
		}
		if s := w.resume(u); s.status != http.StatusNoContent {
			return s
		}
	}
	for range 10 {
		a = w.c.finish(u.location, digest, u.acked, data[u.acked:])
		switch {
		case a.status == http.StatusConflict: // what nobody heard of may still be at work
			time.Sleep(200 * time.Millisecond)
			w.resume(u)
		case a.status == http.StatusRequestedRangeNotSatisfiable:
			if s := w.resume(u); s.status != http.StatusNoContent {
				return s
			}
		default:
			return a
		}
	}
	return a
}

// patch sends the upload's bytes up to end. Some are given little time, so that their client is gone while they go on.
func (w *writer) patch(u *upload, data []byte, end int) answer {
	within := time.Duration(0)
	if w.rnd.IntN(8) == 0 {
		within = time.Duration(20+w.rnd.IntN(400)) * time.Millisecond
	}
	u.sent = max(u.sent, end)
	a := w.c.patch(u.location, u.acked, data[u.acked:end], within)
	if a.status == http.StatusAccepted {
		if got, want := a.header.Get("Range"), fmt.Sprintf("0-%d", end-1); got != want {
			w.judge.fault("%s: chunk up to %d: Range %q, want %q", w.repo, end, got, want)
		}
		u.location, u.acked = a.header.Get("Location"), end
	}
	return a
}

// resume asks how far an upload is, when a request about it got no answer, for as long as nobody can say.
func (w *writer) resume(u *upload) (a answer) {
	for range 30 {
		var offset int
		offset, a = w.c.status(u.location)
		switch {
		case a.unsure():
			time.Sleep(300 * time.Millisecond)
			continue
		case a.status != http.StatusNoContent:
			if u.acked > 0 {
				w.judge.fault("%s: upload %s with %d confirmed bytes: %s", w.repo, u.location, u.acked, a)
			}
		case offset < u.acked || offset > u.sent:
			w.judge.fault("%s: upload %s is at %d; %d bytes were confirmed and %d sent", w.repo, u.location, offset, u.acked, u.sent)
		default:
			u.acked = offset
		}
		return a
	}
	return a
}

func (w *writer) someTag() string {
	for i := w.rnd.IntN(6); ; i += 6 {
		tag := fmt.Sprint("t", i)
		if s := w.tags[tag]; s == nil || !s.unsure {
			return tag
		}
	}
}

// put pushes a manifest by tag. ok says that it is surely there.
func (w *writer) put(tag string, m manifest, kept bool) (ok bool) {
	w.bodies[m.digest] = m
	before := w.tags[tag]
	if before == nil {
		before = &slot{}
		w.tags[tag] = before
	}
	a := w.c.putManifest(w.repo, tag, m)
	if a.unsure() {
		w.busy = true
		before.unsure = true
		before.maybe = append(before.maybe, m.digest)
		if !w.manifests[m.digest].sure() {
			w.manifests[m.digest] = &thing{unsure: true}
		}
		return false
	}
	if a.status != http.StatusCreated || a.digest() != m.digest {
		w.judge.fault("%s: put %s = %s: %s, digest %q", w.repo, tag, m.digest, a, a.digest())
		return false
	}
	if before.digest != m.digest {
		w.expected = append(w.expected, fact(what("push", w.repo, m.digest, tag)))
	}
	before.digest = m.digest
	w.manifests[m.digest] = &thing{there: true, kept: kept}
	w.sometimes(func() { w.expectTag(tag, a.ended) })
	w.sometimes(func() { w.expectManifest(m.digest) })
	return true
}

// sure lists the digests of what is surely there and may be deleted, in an order that a seed repeats.
func sure(m map[string]*thing) (all []string) {
	for d, x := range m {
		if x.sure() && !x.kept {
			all = append(all, d)
		}
	}
	slices.Sort(all)
	return all
}

func (w *writer) moveTag() {
	if there := sure(w.manifests); len(there) > 0 {
		w.put(w.someTag(), w.bodies[there[w.rnd.IntN(len(there))]], false)
	}
}

func (w *writer) deleteTag() {
	tag := w.someTag()
	s := w.tags[tag]
	if s == nil || s.digest == "" {
		return
	}
	a := w.c.delete(w.repo, "manifests", tag)
	if a.unsure() {
		s.unsure, s.maybe = true, append(s.maybe, "")
		return
	}
	if a.status != http.StatusAccepted {
		w.judge.fault("%s: delete tag %s, which is %s: %s", w.repo, tag, s.digest, a)
		return
	}
	s.digest = ""
	w.expected = append(w.expected, fact(what("delete", w.repo, "", tag)))
	w.sometimes(func() { w.expectTag(tag, a.ended) })
}

// deleteManifest takes the tags of the manifest with it.
func (w *writer) deleteManifest() {
	there := sure(w.manifests)
	if len(there) == 0 {
		return
	}
	d := there[w.rnd.IntN(len(there))]
	var tags []*slot
	for _, s := range w.tags {
		switch {
		case s.digest == d && !s.unsure:
			tags = append(tags, s)
		case s.digest == d || slices.Contains(s.maybe, d):
			s.maybe = append(s.maybe, "")
		}
	}
	a := w.c.delete(w.repo, "manifests", d)
	if a.unsure() {
		w.manifests[d].unsure = true
		for _, s := range tags {
			s.unsure, s.maybe = true, append(s.maybe, "")
		}
		return
	}
	if a.status != http.StatusAccepted {
		w.judge.fault("%s: delete manifest %s: %s", w.repo, d, a)
		return
	}
	// A move of a tag to it that got no answer may still bring it back.
	w.manifests[d].there = false
	for _, s := range w.tags {
		if s.unsure && slices.Contains(s.maybe, d) {
			w.manifests[d].unsure = true
		}
	}
	for _, s := range tags {
		s.digest = ""
	}
	w.expected = append(w.expected, fact(what("delete", w.repo, d, "")))
	if !w.manifests[d].unsure {
		w.sometimes(func() { w.expectGone("manifests", d, a.ended) })
	}
}

// deleteBlob deletes a blob that no manifest may need.
func (w *writer) deleteBlob() {
	used := map[string]bool{}
	for d, x := range w.manifests {
		if x.there || x.unsure {
			for _, b := range w.bodies[d].blobs {
				used[b] = true
			}
		}
	}
	free := slices.DeleteFunc(sure(w.blobs), func(d string) bool { return used[d] })
	if len(free) == 0 {
		return
	}
	d := free[w.rnd.IntN(len(free))]
	a := w.c.delete(w.repo, "blobs", d)
	if a.unsure() {
		w.blobs[d].unsure = true
		return
	}
	if a.status != http.StatusAccepted {
		w.judge.fault("%s: delete blob %s: %s", w.repo, d, a)
		return
	}
	w.blobs[d].there = false
	w.expected = append(w.expected, fact(what("delete", w.repo, d, "")))
	w.sometimes(func() { w.expectGone("blobs", d, a.ended) })
}

// mount takes over a blob that another writer has and keeps.
func (w *writer) mount() {
	from, d, ok := w.shelf.offered(w.rnd, w.repo)
	if !ok || w.blobs[d] != nil {
		return
	}
	a := w.c.begin(w.repo, "?mount="+url.QueryEscape(d)+"&from="+url.QueryEscape(from))
	if a.unsure() {
		w.blobs[d] = &thing{unsure: true}
		return
	}
	if a.status != http.StatusCreated {
		w.judge.fault("%s: mount of %s, which %s surely has: %s", w.repo, d, from, a)
		return
	}
	w.blobs[d] = &thing{there: true}
	w.expected = append(w.expected, fact(what("mount", w.repo, d, "")))
	w.sometimes(func() { w.expectBlob(d) })
}

// leaveOpen goes on with an upload that was left open, or begins one. Those that are open at the end are abandoned.
func (w *writer) leaveOpen() {
	if len(w.open) < keepOpen {
		c := content{w.rnd.Uint64(), 20_000 + w.rnd.IntN(500_000)}
		if w.rnd.IntN(4) == 0 {
			c.size = 6<<20 + w.rnd.IntN(2<<20)
		}
		if !w.budget.take(c.size) {
			return
		}
		if a := w.c.begin(w.repo, ""); a.status == http.StatusAccepted {
			w.open = append(w.open, &upload{location: a.header.Get("Location"), content: c})
		}
	}
	if len(w.open) == 0 {
		return
	}
	i := w.rnd.IntN(len(w.open))
	u := w.open[i]
	data := u.content.bytes()
	if left := len(data) - u.acked; left > len(data)/4 {
		if a := w.patch(u, data, u.acked+1+w.rnd.IntN(left)); a.status != http.StatusAccepted {
			w.recover(u, i, a)
		}
		return
	}
	digest := digestOf(data)
	w.contents[digest] = u.content
	a := w.c.finish(u.location, digest, u.acked, data[u.acked:])
	if a.status == http.StatusRequestedRangeNotSatisfiable { // a chunk arrived after all
		w.recover(u, i, a)
		return
	}
	w.open = slices.Delete(w.open, i, i+1)
	switch {
	case a.unsure(), a.status == http.StatusConflict:
		w.blobs[digest] = &thing{unsure: true}
	case a.status == http.StatusCreated:
		w.blobs[digest] = &thing{there: true}
	default:
		w.judge.fault("%s: end of an upload at %d: %s", w.repo, u.acked, a)
	}
}

// recover goes on with an upload after a chunk that was not taken, or gives it up.
func (w *writer) recover(u *upload, i int, a answer) {
	if !a.unsure() && a.status != http.StatusRequestedRangeNotSatisfiable && a.status != http.StatusConflict &&
		(u.acked > 0 || a.status != http.StatusNotFound) {
		w.judge.fault("%s: chunk of upload %s at %d: %s", w.repo, u.location, u.acked, a)
	}
	if w.resume(u).status != http.StatusNoContent {
		w.open = slices.Delete(w.open, i, i+1)
	}
}

func (w *writer) sometimes(do func()) {
	if w.rnd.IntN(3) == 0 {
		do()
	}
}

// expectBlob reads what was acknowledged a moment ago, at another replica: what is new is seen at once everywhere.
func (w *writer) expectBlob(d string) {
	a := w.c.get(w.repo, "blobs", d)
	if !a.unsure() && (a.status != http.StatusOK || digestOf(a.body) != d) {
		w.judge.fault("%s: blob %s was acknowledged: %d, %d bytes", w.repo, d, a.status, len(a.body))
	}
}

func (w *writer) expectManifest(d string) {
	a := w.c.get(w.repo, "manifests", d)
	if !a.unsure() && (a.status != http.StatusOK || digestOf(a.body) != d) {
		w.judge.fault("%s: manifest %s was acknowledged: %s", w.repo, d, a)
	}
}

// expectTag reads a tag at another replica, which may be behind by trustFor.
func (w *writer) expectTag(tag string, since time.Time) {
	a := w.c.head(w.repo, "manifests", tag)
	if a.unsure() || since.After(w.judge.trustedFrom(a.began, a.ended, trustFor)) {
		return
	}
	if want := w.tags[tag].digest; a.digest() != want {
		w.judge.fault("%s: tag %s is %q %s after it became %q", w.repo, tag, a.digest(), a.began.Sub(since), want)
	}
}

// expectGone asks for what was deleted, until it has to be gone.
func (w *writer) expectGone(kind, d string, since time.Time) {
	for {
		a := w.c.head(w.repo, kind, d)
		if a.unsure() || a.status == http.StatusNotFound {
			return
		}
		if since.Before(w.judge.trustedFrom(a.began, a.ended, trustFor)) {
			w.judge.fault("%s: %s %s is there %s after it was deleted: %d", w.repo, kind, d, a.began.Sub(since), a.status)
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}
