package cluster

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// verify asks every replica for everything, in peace.
func (c *crowd) verify(f *fleet) {
	f.t.Helper()
	time.Sleep(trustFor) // after which nothing is old
	began := time.Now()
	var checked counts
	for i := range f.replicas {
		direct := f.direct(i)
		var all sync.WaitGroup
		for _, w := range c.writers {
			all.Go(func() { checked.add(w.verify(direct, i)) })
		}
		all.Wait()
	}
	f.t.Logf("verified through every replica in %s: %s", time.Since(began).Round(time.Millisecond), &checked)
	if checked.blobs == 0 || checked.manifests == 0 || checked.tags == 0 || checked.gone == 0 || checked.large == 0 {
		f.t.Errorf("nothing to verify: %s", &checked)
	}
	c.verifyHot(f)
}

// counts is how much was looked at.
type counts struct {
	mu                                       sync.Mutex
	blobs, large, manifests, tags, gone, may int
	bytes                                    int64
}

func (n *counts) add(m *counts) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.blobs, n.large, n.manifests, n.tags = n.blobs+m.blobs, n.large+m.large, n.manifests+m.manifests, n.tags+m.tags
	n.gone, n.may, n.bytes = n.gone+m.gone, n.may+m.may, n.bytes+m.bytes
}

func (n *counts) String() string {
	return fmt.Sprintf("%d blobs (%d of several MiB), %d manifests, %d tags, %d MiB; %d deleted; %d that nobody knows of",
		n.blobs, n.large, n.manifests, n.tags, n.bytes>>20, n.gone, n.may)
}

// verify compares what one replica has with the ledger.
func (w *writer) verify(c *client, replica int) *counts {
	n := &counts{}
	fault := func(format string, args ...any) {
		w.judge.fault(fmt.Sprintf("at the end, %s at replica %d: ", w.repo, replica)+format, args...)
	}
	for d, x := range w.blobs {
		a := c.get(w.repo, "blobs", d)
		n.thing(a, x, "blob "+d, d, fault)
		if x.sure() {
			if n.blobs++; len(a.body) >= 5<<20 {
				n.large++
			}
		}
	}
	for d, x := range w.manifests {
		a := c.get(w.repo, "manifests", d)
		n.thing(a, x, "manifest "+d, d, fault)
		if x.sure() {
			n.manifests++
		}
		if a.status != http.StatusOK {
			continue
		}
		if !bytes.Equal(a.body, w.bodies[d].body) {
			fault("manifest %s has other bytes than were pushed", d)
		}
		for _, b := range w.bodies[d].blobs {
			if h := c.head(w.repo, "blobs", b); h.status != http.StatusOK {
				fault("manifest %s is there and its blob %s is not: %s", d, b, h)
			}
		}
	}
	w.verifyTags(c, n, fault)
	return n
}

type faultf func(format string, args ...any)

// thing judges an answer for content by digest. What is there is whole, however sure that it is there.
func (n *counts) thing(a answer, x *thing, what, digest string, fault faultf) {
	n.bytes += int64(len(a.body))
	switch {
	case a.status == http.StatusOK && digestOf(a.body) != digest:
		fault("%s: %d bytes that are not its own", what, len(a.body))
	case a.status != http.StatusOK && a.status != http.StatusNotFound:
		fault("%s: %s", what, a)
	case x.unsure:
		n.may++
	case x.there && a.status != http.StatusOK:
		fault("%s was acknowledged and is lost: %s", what, a)
	case !x.there && a.status == http.StatusOK:
		fault("%s was deleted, that was acknowledged, and it is there", what)
	case !x.there:
		n.gone++
	}
}

func (w *writer) verifyTags(c *client, n *counts, fault faultf) {
	var there []string
	for tag, s := range w.tags {
		a := c.head(w.repo, "manifests", tag)
		if a.status != http.StatusOK && a.status != http.StatusNotFound {
			fault("tag %s: %s", tag, a)
			continue
		}
		may := []string{s.digest}
		if s.unsure {
			may = append(may, s.maybe...)
			n.may++
		} else {
			n.tags++
		}
		if !slices.Contains(may, a.digest()) {
			fault("tag %s is %q, want one of %q", tag, a.digest(), may)
		}
		if a.digest() != "" {
			there = append(there, tag)
		}
	}
	slices.Sort(there)
	if got, a := c.tags(w.repo); a.status == http.StatusOK && !slices.Equal(got, there) {
		fault("the tag list is %q, and the tags that are there %q", got, there)
	}
}

// verifyHot judges the tags that all moved, as every replica has them in the end, by what clients saw and by the outbox.
func (c *crowd) verifyHot(f *fleet) {
	f.t.Helper()
	events := f.events()
	direct := make([]*client, replicaCount)
	for i := range direct {
		direct[i] = f.direct(i)
	}
	for i, h := range c.histories {
		final := ""
		for r, cl := range direct {
			a := cl.head(hotRepo, "manifests", hotTag(i))
			if a.status != http.StatusOK {
				f.judge.fault("%s at replica %d in the end: %s", hotTag(i), r, a)
			}
			h.read(a.digest(), a.began, a.ended)
			if final != "" && final != a.digest() {
				f.judge.fault("%s at replica %d is %s, at another %s", hotTag(i), r, a.digest(), final)
			}
			final = a.digest()
		}
		order := events.movesOf(hotRepo, hotTag(i))
		contradictions := append(h.check(), h.agrees(order)...)
		for _, fault := range contradictions {
			f.judge.fault("%s: %s", hotTag(i), fault)
		}
		if len(order) == 0 || order[len(order)-1] != final {
			f.judge.fault("%s is %s, and the last of %d moves in the outbox another", hotTag(i), final, len(order))
		}
		acked := h.acknowledged()
		var all sync.WaitGroup
		for r, cl := range direct {
			all.Go(func() {
				for d := range acked {
					if a := cl.head(hotRepo, "manifests", d); a.status != http.StatusOK {
						f.judge.fault("manifest %s of an acknowledged move at replica %d: %s", d, r, a)
					}
				}
			})
		}
		all.Wait()
		f.t.Logf("%s: %d moves acknowledged, %d in the outbox with those that got no answer, %d reads, %d contradictions",
			hotTag(i), len(acked), len(order), h.reads(), len(contradictions))
	}
}
