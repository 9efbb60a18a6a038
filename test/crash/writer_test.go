package crash

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"
)

// errGone ends a writer's round: the daemon did not answer.
var errGone = errors.New("the daemon is gone")

// load is what the writers of one round share.
type load struct {
	client  *client
	ending  atomic.Bool // set before the daemon is ended: from then on silence is no fault
	drains  bool        // it is ended by SIGTERM: it may refuse, with 503
	acks    atomic.Int64
	ackGoal int64         // at this many acknowledged writes …
	reached chan struct{} // … this is closed
	hot     *register
}

func (l *load) acknowledged() {
	if l.acks.Add(1) == l.ackGoal {
		close(l.reached)
	}
}

// writer pushes, moves and deletes in a repository of its own, one request at a time, and remembers what it was told.
type writer struct {
	*ledger
	name      string
	repo      string
	siblings  []string // repositories of the others, to mount from
	rnd       *rand.Rand
	next      int
	budget    int // bytes of large blobs left for this round
	shared    []manifest
	protected map[string]bool // manifests that an index refers to
}

const (
	sharedRepo  = "crash/shared"
	hotTag      = "hot"
	roundBudget = 6 << 20
	tagsPerRepo = 6
)

func newWriter(i, n int, seed uint64) *writer {
	w := &writer{ledger: newLedger(), name: fmt.Sprint("w", i), repo: fmt.Sprint("crash/w", i),
		rnd: rand.New(rand.NewPCG(seed, uint64(i))), protected: map[string]bool{}}
	for j := range n {
		if j != i {
			w.siblings = append(w.siblings, fmt.Sprint("crash/w", j))
		}
	}
	return w
}

// run works until the daemon is gone, which is nil, or does something that it must not, which is an error.
func (w *writer) run(l *load) error {
	w.budget = roundBudget
	for {
		if err := w.step(l); err == errGone {
			return nil
		} else if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		time.Sleep(time.Duration(w.rnd.IntN(3_000)) * time.Microsecond)
	}
}

func (w *writer) step(l *load) error {
	switch n := w.rnd.IntN(100); {
	case n < 35:
		return w.pushImage(l)
	case n < 50:
		return w.moveTag(l)
	case n < 60:
		return w.moveHotTag(l)
	case n < 66:
		return w.pushIndex(l)
	case n < 74:
		return w.deleteTag(l)
	case n < 80:
		return w.deleteManifest(l)
	case n < 85:
		return w.deleteBlob(l)
	case n < 90:
		return w.mount(l)
	default:
		return w.continueUpload(l)
	}
}

// told judges an answer: nil when the write was acknowledged with the status that was expected.
func (w *writer) told(l *load, what string, a answer, err error, want int) error {
	switch {
	case err != nil && l.ending.Load():
		w.note("%s: no answer", what)
		return errGone
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	case a.status == want:
		w.note("%s: %d", what, a.status)
		l.acknowledged()
		return nil
	case l.drains && l.ending.Load() && a.status == http.StatusServiceUnavailable:
		w.note("%s: %d", what, a.status)
		return errGone
	}
	return fmt.Errorf("%s: answer %s, want %d", what, a, want)
}

func (w *writer) pushImage(l *load) error {
	w.next++
	name := fmt.Sprintf("%s-%d", w.name, w.next)
	config, err := w.pushBlob(l, content{w.rnd.Uint64(), 200 + w.rnd.IntN(2_000)})
	if err != nil {
		return err
	}
	config.MediaType = "application/vnd.oci.image.config.v1+json"
	layers := []descriptor{}
	for range 1 + w.rnd.IntN(2) {
		d, err := w.pushBlob(l, w.someContent())
		if err != nil {
			return err
		}
		layers = append(layers, d)
	}
	return w.putByTag(l, w.someTag(), imageOf(name, config, layers))
}

// someContent is a layer: often one that the other writers push too, seldom a large one.
func (w *writer) someContent() content {
	if w.rnd.IntN(3) == 0 {
		seed := uint64(1 + w.rnd.IntN(20))
		return content{seed, 1000 << (seed % 9)} // the same for all: 1 to 256 KB
	}
	c := content{w.rnd.Uint64(), 1 + w.rnd.IntN(60_000)}
	if n := 200_000 + w.rnd.IntN(3_000_000); w.rnd.IntN(6) == 0 && n <= w.budget {
		w.budget -= n
		c.size = n
	}
	return c
}

func (w *writer) someTag() string { return fmt.Sprint("t", w.rnd.IntN(tagsPerRepo)) }

func (w *writer) pushBlob(l *load, c content) (descriptor, error) {
	data := c.bytes()
	digest := digestOf(data)
	d := descriptor{"application/vnd.oci.image.layer.v1.tar", digest, len(data)}
	if there, ok := sure(w.blobs, digest); ok && there && w.rnd.IntN(4) > 0 {
		return d, nil
	}
	w.content[digest] = c
	may(w.blobs, digest, true)
	var a answer
	var err error
	how := ""
	switch w.rnd.IntN(3) {
	case 0:
		how = "push at once"
		a, err = l.client.pushAtOnce(w.repo, digest, data)
	case 1:
		how = "push in two"
		a, err = l.client.pushInTwo(w.repo, digest, data)
	case 2:
		how = "push in chunks"
		a, err = w.pushChunks(l, digest, data)
	}
	if err := w.told(l, fmt.Sprintf("%s %s (%d bytes)", how, digest, len(data)), a, err, http.StatusCreated); err != nil {
		return d, err
	}
	is(w.blobs, digest, true)
	return d, nil
}

func (w *writer) pushChunks(l *load, digest string, data []byte) (answer, error) {
	location, a, err := l.client.begin(w.repo, "")
	if location == "" || err != nil {
		return a, err
	}
	offset, step := 0, len(data)/3+1
	for offset+step < len(data) {
		location, a, err = l.client.patch(location, int64(offset), data[offset:offset+step])
		if err != nil || a.status != http.StatusAccepted {
			return a, err
		}
		offset += step
	}
	return l.client.finish(location, digest, data[offset:])
}

func (w *writer) putByTag(l *load, tag string, m manifest) error {
	w.known[m.digest] = m
	may(w.manifests, m.digest, true)
	may(w.tags, tag, m.digest)
	a, err := l.client.putManifest(w.repo, tag, m)
	if err := w.told(l, "put "+tag+" = "+m.digest, a, err, http.StatusCreated); err != nil {
		return err
	}
	is(w.manifests, m.digest, true)
	is(w.tags, tag, m.digest)
	return nil
}

func (w *writer) moveTag(l *load) error {
	there := having(w.manifests, true)
	if len(there) == 0 {
		return nil
	}
	return w.putByTag(l, w.someTag(), w.known[there[w.rnd.IntN(len(there))]])
}

func (w *writer) pushIndex(l *load) error {
	var children []descriptor
	for _, d := range having(w.manifests, true) {
		if m := w.known[d]; m.mediaType == imageManifest && len(children) < 2 && w.rnd.IntN(4) == 0 {
			children = append(children, descriptor{m.mediaType, d, len(m.body)})
		}
	}
	if len(children) == 0 {
		return nil
	}
	for _, c := range children {
		w.protected[c.Digest] = true
	}
	w.next++
	return w.putByTag(l, w.someTag(), indexOf(fmt.Sprintf("%s-index-%d", w.name, w.next), children))
}

// moveHotTag moves the tag that every writer moves.
func (w *writer) moveHotTag(l *load) error {
	w.next++
	m := imageOf(fmt.Sprintf("%s-hot-%d", w.name, w.next), emptyConfig, []descriptor{})
	move := l.hot.begin(m.digest)
	w.known[m.digest] = m
	a, err := l.client.putManifest(sharedRepo, hotTag, m)
	if err := w.told(l, "put hot = "+m.digest, a, err, http.StatusCreated); err != nil {
		return err
	}
	l.hot.acknowledge(move)
	w.shared = append(w.shared, m)
	return nil
}

func (w *writer) deleteTag(l *load) error {
	tag := w.someTag()
	if d, ok := sure(w.tags, tag); !ok || d == "" {
		return nil
	}
	may(w.tags, tag, "")
	a, err := l.client.delete(w.repo, "manifests", tag)
	if err := w.told(l, "delete tag "+tag, a, err, http.StatusAccepted); err != nil {
		return err
	}
	is(w.tags, tag, "")
	return nil
}

// deleteManifest takes the tags of the manifest with it.
func (w *writer) deleteManifest(l *load) error {
	there := slices.DeleteFunc(having(w.manifests, true), func(d string) bool { return w.protected[d] })
	if len(there) == 0 {
		return nil
	}
	d := there[w.rnd.IntN(len(there))]
	var tags []string
	for tag := range w.tags {
		if now, ok := sure(w.tags, tag); ok && now == d {
			tags = append(tags, tag)
			may(w.tags, tag, "")
		}
	}
	may(w.manifests, d, false)
	a, err := l.client.delete(w.repo, "manifests", d)
	if err := w.told(l, "delete "+d, a, err, http.StatusAccepted); err != nil {
		return err
	}
	is(w.manifests, d, false)
	for _, tag := range tags {
		is(w.tags, tag, "")
	}
	return nil
}

// deleteBlob deletes a blob that no manifest of the repository needs.
func (w *writer) deleteBlob(l *load) error {
	used := map[string]bool{}
	for d, there := range w.manifests {
		if slices.Contains(there, true) {
			for _, b := range w.known[d].blobs {
				used[b] = true
			}
		}
	}
	free := slices.DeleteFunc(having(w.blobs, true), func(d string) bool { return used[d] })
	if len(free) == 0 {
		return nil
	}
	d := free[w.rnd.IntN(len(free))]
	may(w.blobs, d, false)
	a, err := l.client.delete(w.repo, "blobs", d)
	if err := w.told(l, "delete blob "+d, a, err, http.StatusAccepted); err != nil {
		return err
	}
	is(w.blobs, d, false)
	return nil
}

// mount asks for a blob that another writer may have. When it has not, an upload begins, which is cancelled.
func (w *writer) mount(l *load) error {
	seed := uint64(1 + w.rnd.IntN(20))
	c := content{seed, 1000 << (seed % 9)}
	digest := digestOf(c.bytes())
	w.content[digest] = c
	may(w.blobs, digest, true)
	from := w.siblings[w.rnd.IntN(len(w.siblings))]
	location, a, err := l.client.begin(w.repo, "?mount="+url.QueryEscape(digest)+"&from="+url.QueryEscape(from))
	if location == "" {
		if err := w.told(l, "mount "+digest+" from "+from, a, err, http.StatusCreated); err != nil {
			return err
		}
		is(w.blobs, digest, true)
		return nil
	}
	if there, _ := sure(w.blobs, digest); !there {
		is(w.blobs, digest, false)
	}
	a, err = l.client.do(http.MethodDelete, location, nil, nil)
	return w.told(l, "cancel the upload in place of a mount", a, err, http.StatusNoContent)
}

// continueUpload begins an upload that stays open, or sends the next chunk of one, or its end.
func (w *writer) continueUpload(l *load) error {
	if len(w.uploads) < 3 && w.rnd.IntN(2) == 0 {
		location, a, err := l.client.begin(w.repo, "")
		if err := w.told(l, "begin an upload", a, err, http.StatusAccepted); err != nil {
			return err
		}
		u := &openUpload{location: location, content: content{w.rnd.Uint64(), 300_000 + w.rnd.IntN(500_000)}}
		if err := w.sendChunk(l, u, u.content.bytes()); err != nil {
			return err
		}
		w.uploads = append(w.uploads, u)
		return nil
	}
	if len(w.uploads) == 0 {
		return nil
	}
	i := w.rnd.IntN(len(w.uploads))
	u := w.uploads[i]
	data := u.content.bytes()
	if int64(len(data))-u.acked > 100_000 {
		return w.sendChunk(l, u, data)
	}
	w.uploads = slices.Delete(w.uploads, i, i+1)
	return w.finishUpload(l, u, data)
}

func (w *writer) sendChunk(l *load, u *openUpload, data []byte) error {
	end := min(u.acked+1+int64(w.rnd.IntN(200_000)), int64(len(data))-1)
	u.sent = max(u.sent, end)
	next, a, err := l.client.patch(u.location, u.acked, data[u.acked:end])
	if err := w.told(l, fmt.Sprintf("patch %s from %d to %d", u.location, u.acked, end), a, err, http.StatusAccepted); err != nil {
		return err
	}
	if got, want := a.header.Get("Range"), fmt.Sprintf("0-%d", end-1); got != want {
		return fmt.Errorf("patch up to %d: Range %q, want %q", end, got, want)
	}
	u.location, u.acked = next, end
	return nil
}

func (w *writer) finishUpload(l *load, u *openUpload, data []byte) error {
	digest := digestOf(data)
	w.content[digest] = u.content
	may(w.blobs, digest, true)
	a, err := l.client.finish(u.location, digest, data[u.acked:])
	if err := w.told(l, "finish "+u.location+" as "+digest, a, err, http.StatusCreated); err != nil {
		return err
	}
	is(w.blobs, digest, true)
	return nil
}
