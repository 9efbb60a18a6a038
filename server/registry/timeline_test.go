package registry_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/registry"
)

// TestTimeline pushes, moves, deletes, rolls back, restores and purges at random, while the clock goes on and now and then
// steps back by up to 20 minutes, and compares with a model: where every tag was at any time, which tags and manifests are
// gone, and what is in the trash. BERTH_SEED repeats a run, BERTH_STEPS makes it longer.
func TestTimeline(t *testing.T) {
	eachDatabase(t, func(t *testing.T, database func(*options)) {
		seed, steps := number(t, "BERTH_SEED", time.Now().UnixNano()), number(t, "BERTH_STEPS", 10_000)
		if testing.Short() {
			steps = min(steps, 1000)
		}
		t.Logf("BERTH_SEED=%d BERTH_STEPS=%d", seed, steps)
		w := newWorld(t, database, uint64(seed))
		for i := range steps {
			what := w.step()
			if t.Failed() {
				t.Fatalf("step %d: %s", i, what)
			}
			if i%500 == 499 || i == steps-1 {
				w.compare()
				if t.Failed() {
					t.Fatalf("after step %d: %s", i, what)
				}
			}
		}
	})
}

func number(t *testing.T, name string, otherwise int64) int64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// world is an engine and what should be in it.
type world struct {
	*house
	t     *testing.T
	r     *rand.Rand
	clock atomic.Int64 // microseconds

	journals map[string][]registry.TagEntry // oldest first: Digest and Since
	living   map[oci.Digest]bool
	trash    map[oci.Digest][]string // the tags that went with it
	pool     []registry.PutManifest
	digests  []oci.Digest
	first    int64
}

const worldRepo = "library/app"

func newWorld(t *testing.T, database func(*options), seed uint64) *world {
	w := &world{t: t, r: rand.New(rand.NewPCG(seed, 1)), journals: map[string][]registry.TagEntry{}, living: map[oci.Digest]bool{}, trash: map[oci.Digest][]string{}}
	w.first = time.Now().UnixMicro()
	w.clock.Store(w.first)
	w.house = newHouse(t, database, func(o *options) {
		o.registry.Now = func() time.Time { return time.UnixMicro(w.clock.Load()) }
		o.registry.TrashHold = 1000 * time.Hour
	})
	for i := range 12 {
		p := index("", fmt.Sprint("content ", i))
		w.pool = append(w.pool, p)
		w.digests = append(w.digests, oci.FromBytes(oci.SHA256, p.Body))
	}
	return w
}

func (w *world) now(tag string) oci.Digest {
	j := w.journals[tag]
	if len(j) == 0 {
		return oci.Digest{}
	}
	return j[len(j)-1].Digest
}

// move is what the model knows of time: an entry is later than the one before, whatever the clock says.
func (w *world) move(tag string, d oci.Digest) {
	j := w.journals[tag]
	if w.now(tag) == d {
		return
	}
	since := w.clock.Load()
	if len(j) > 0 {
		since = max(since, j[len(j)-1].Since.UnixMicro()+1)
	}
	w.journals[tag] = append(j, registry.TagEntry{Digest: d, Since: time.UnixMicro(since).UTC()})
}

func (w *world) at(tag string, at time.Time) (d oci.Digest) {
	for _, e := range w.journals[tag] {
		if e.Since.After(at) {
			break
		}
		d = e.Digest
	}
	return d
}

func (w *world) tagsOf(d oci.Digest) (tags []string) {
	for tag := range w.journals {
		if w.now(tag) == d {
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	return tags
}

// bringBack is whether a manifest is there, if need be out of the trash.
func (w *world) bringBack(d oci.Digest) bool {
	if _, ok := w.trash[d]; ok {
		delete(w.trash, d)
		w.living[d] = true
	}
	return w.living[d]
}

// sometime is any time from before the first step until after the last entry of any journal.
func (w *world) sometime() time.Time {
	last := max(w.clock.Load(), w.first)
	for _, j := range w.journals {
		last = max(last, j[len(j)-1].Since.UnixMicro())
	}
	return time.UnixMicro(w.first - 1000 + w.r.Int64N(last-w.first+1_000_000))
}

// want fails unless the error is of the kind, 0 for none.
func (w *world) want(what string, err error, ok bool, kinds ...fault.Kind) {
	w.t.Helper()
	if ok && err != nil {
		w.t.Errorf("%s: %v", what, err)
	}
	if !ok && !slices.ContainsFunc(kinds, func(k fault.Kind) bool { return fault.Is(err, k) }) {
		w.t.Errorf("%s: %v, want one of %v", what, err, kinds)
	}
}

func (w *world) step() string {
	w.clock.Add(1 + w.r.Int64N(1_000_000))
	switch w.r.IntN(100) {
	case 0:
		w.clock.Add(w.r.Int64N(3_600_000_000))
	case 1, 2:
		w.clock.Add(-w.r.Int64N(1_200_000_000))
	}
	if w.r.IntN(10) == 0 { // within the same microsecond
		w.clock.Add(-1)
	}
	tag, i := fmt.Sprint("t", w.r.IntN(8)), w.r.IntN(len(w.pool))
	d := w.digests[i]
	switch w.r.IntN(12) {
	case 0, 1, 2, 3:
		p := w.pool[i]
		p.Reference = tagged(tag)
		_, err := w.PutManifest(user("alice"), repo(worldRepo), p)
		w.want("push", err, true)
		delete(w.trash, d)
		w.living[d] = true
		w.move(tag, d)
		return "push " + tag
	case 4, 5:
		_, err := w.DeleteManifest(admin(), repo(worldRepo), tagged(tag))
		ok := !w.now(tag).IsZero()
		w.want("delete of "+tag, err, ok, fault.NotFound)
		if ok {
			w.move(tag, oci.Digest{})
		}
		return "delete " + tag
	case 6, 7:
		return w.deleteDigest(d)
	case 8, 9:
		return w.rollback(tag, d)
	case 10:
		return w.restoreTag(tag)
	}
	if w.r.IntN(4) > 0 {
		return w.restoreManifest(d)
	}
	_, err := w.PurgeTrash(admin(), repo(worldRepo), d)
	_, ok := w.trash[d]
	w.want("purge", err, ok, fault.NotFound)
	delete(w.trash, d)
	return "purge " + d.Short()
}

func (w *world) deleteDigest(d oci.Digest) string {
	gone, err := w.DeleteManifest(admin(), repo(worldRepo), byDigest(d))
	w.want("delete", err, w.living[d], fault.NotFound)
	if err != nil {
		return "delete " + d.Short()
	}
	tags := w.tagsOf(d)
	if !slices.Equal(gone.Tags, tags) {
		w.t.Errorf("deletion names the tags %v, want %v", gone.Tags, tags)
	}
	for _, tag := range tags {
		w.move(tag, oci.Digest{})
	}
	delete(w.living, d)
	w.trash[d] = tags
	return "delete " + d.Short()
}

func (w *world) rollback(tag string, d oci.Digest) string {
	var to registry.Rollback
	var want oci.Digest
	switch w.r.IntN(3) {
	case 0:
		to.Digest, want = d, d
	case 1:
		to.At = w.sometime()
		want = w.at(tag, to.At)
	case 2:
		j := w.journals[tag]
		for i := len(j) - 2; i >= 0 && want.IsZero(); i-- {
			if j[i].Digest != w.now(tag) {
				want = j[i].Digest
			}
		}
	}
	if w.r.IntN(3) == 0 {
		to.Expect = w.digests[w.r.IntN(len(w.digests))]
	}
	moved, err := w.RollbackTag(user("alice"), repo(worldRepo), tag, to)
	_, trashed := w.trash[want]
	fits := to.Expect.IsZero() || to.Expect == w.now(tag)
	if want.IsZero() || !w.living[want] && !trashed || !fits {
		w.want("rollback", err, false, fault.NotFound, fault.Conflict)
		if fits == fault.Is(err, fault.Conflict) && (want.IsZero() || w.living[want] || trashed) && !want.IsZero() {
			w.t.Errorf("rollback of %s: %v", tag, err)
		}
		return "rollback " + tag + ", refused"
	}
	w.want("rollback", err, true)
	if err == nil && (moved.Digest != want || moved.Restored != trashed || moved.Before != w.now(tag)) {
		w.t.Errorf("rollback: %+v; want %s from %s", moved, want, w.now(tag))
	}
	w.bringBack(want)
	w.move(tag, want)
	return fmt.Sprintf("rollback %s %+v", tag, to)
}

func (w *world) restoreTag(tag string) string {
	_, err := w.RestoreTag(user("alice"), repo(worldRepo), tag)
	j := w.journals[tag]
	if !w.now(tag).IsZero() {
		w.want("restore of a tag that is there", err, false, fault.Conflict, fault.NotFound)
		return "restore " + tag
	}
	if len(j) < 2 || !w.bringBack(j[len(j)-2].Digest) {
		w.want("restore", err, false, fault.NotFound)
		return "restore " + tag
	}
	w.want("restore", err, true)
	w.move(tag, j[len(j)-2].Digest)
	return "restore " + tag
}

func (w *world) restoreManifest(d oci.Digest) string {
	r := registry.RestoreManifest{Digest: d, Tags: w.r.IntN(2) == 0, Force: w.r.IntN(2) == 0}
	got, err := w.RestoreManifest(user("alice"), repo(worldRepo), r)
	tags, ok := w.trash[d]
	w.want("restore", err, ok, fault.NotFound)
	if !ok || err != nil {
		return "restore " + d.Short()
	}
	w.bringBack(d)
	for _, tag := range tags {
		now := w.now(tag)
		back := r.Tags && (now.IsZero() || r.Force)
		if back != slices.Contains(got.Tags, tag) || (r.Tags && !back) != (got.Taken[tag] != "") {
			w.t.Errorf("restore %+v: tag %s, which is at %s: %+v", r, tag, now, got)
		}
		if back {
			w.move(tag, d)
		}
	}
	return fmt.Sprintf("restore %+v", r)
}

// compare holds everything that can be asked against the model.
func (w *world) compare() {
	var living, dead []string
	for tag, journal := range w.journals {
		w.compareJournal(tag, journal)
		if w.now(tag).IsZero() {
			dead = append(dead, tag)
		} else {
			living = append(living, tag)
		}
	}
	slices.Sort(living)
	slices.Sort(dead)
	if got := w.tags(w.t, worldRepo); !slices.Equal(got, living) {
		w.t.Errorf("tags are %v, want %v", got, living)
	}
	deleted, err := w.DeletedTags(admin(), repo(worldRepo), "", 0)
	w.want("deleted tags", err, true)
	if got := names(deleted, func(t registry.DeletedTag) string { return t.Tag }); !slices.Equal(got, dead) {
		w.t.Errorf("deleted tags are %v, want %v", got, dead)
	}
	for range 20 {
		at := w.sometime()
		want := map[string]oci.Digest{}
		for tag := range w.journals {
			if d := w.at(tag, at); !d.IsZero() {
				want[tag] = d
			}
		}
		got := map[string]oci.Digest{}
		for after := ""; ; {
			page, err := w.TagsAt(admin(), repo(worldRepo), at, after, 3)
			w.want("tags at a time", err, true)
			for _, e := range page {
				got[e.Tag], after = e.Digest, e.Tag
			}
			if len(page) < 3 {
				break
			}
		}
		if !maps.Equal(got, want) {
			w.t.Errorf("tags at %s are %v, want %v", at, got, want)
		}
	}
	w.compareTrash()
	for _, d := range w.digests {
		if _, err := w.Manifest(admin(), repo(worldRepo), byDigest(d)); (err == nil) != w.living[d] {
			w.t.Errorf("pull of %s: %v", d, err)
		}
	}
}

func (w *world) compareTrash() {
	got := map[oci.Digest][]string{}
	for after := ""; ; {
		page, err := w.Trash(admin(), repo(worldRepo), registry.TrashQuery{After: after, Limit: 2})
		w.want("trash", err, true)
		for _, t := range page {
			got[t.Digest], after = t.Tags, t.Next
		}
		if len(page) < 2 {
			break
		}
	}
	if !maps.EqualFunc(got, w.trash, func(a, b []string) bool { return slices.Equal(a, b) }) {
		w.t.Errorf("trash is %v, want %v", got, w.trash)
	}
}

func (w *world) compareJournal(tag string, journal []registry.TagEntry) {
	var got []registry.TagEntry
	for before := (time.Time{}); ; {
		page, err := w.TagHistory(admin(), repo(worldRepo), tag, before, 7)
		w.want("history", err, true)
		for _, e := range page {
			got, before = append(got, registry.TagEntry{Digest: e.Digest, Since: e.Since}), e.Since
		}
		if len(page) < 7 {
			break
		}
	}
	slices.Reverse(got)
	if !slices.Equal(got, journal) {
		w.t.Errorf("history of %s is\n%v\nwant\n%v", tag, got, journal)
	}
	for range 50 {
		at := journal[w.r.IntN(len(journal))].Since.Add(time.Duration(w.r.IntN(5)-2) * time.Microsecond)
		if w.r.IntN(2) == 0 {
			at = w.sometime()
		}
		e, err := w.TagAt(admin(), repo(worldRepo), tag, at)
		want := w.at(tag, at)
		if want.IsZero() {
			w.want("tag at a time", err, false, fault.NotFound)
		} else if err != nil || e.Digest != want {
			w.t.Errorf("%s at %s is %s, %v; want %s", tag, at, e.Digest, err, want)
		}
	}
}

func names[T any](all []T, name func(T) string) (out []string) {
	for _, v := range all {
		out = append(out, name(v))
	}
	return out
}

// TestTimelineOfConcurrentMoves: whoever moves, deletes and restores one tag at the same moment, its journal is one story
// without gaps, and ends where the tag is.
func TestTimelineOfConcurrentMoves(t *testing.T) {
	eachDatabase(t, func(t *testing.T, database func(*options)) {
		h := newHouse(t, database, func(o *options) { o.registry.TrashHold = time.Hour })
		done := make(chan error, 6)
		for c := range cap(done) {
			go func() {
				var failed error
				for i := range 40 {
					p := index("latest", fmt.Sprint("content ", (c+i)%3))
					var err error
					switch (c + i) % 4 {
					case 0, 1:
						_, err = h.PutManifest(admin(), repo(worldRepo), p)
					case 2:
						_, err = h.DeleteManifest(admin(), repo(worldRepo), tagged("latest"))
					case 3:
						_, err = h.DeleteManifest(admin(), repo(worldRepo), byDigest(oci.FromBytes(oci.SHA256, p.Body)))
					}
					if err != nil && !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Conflict) {
						failed = errors.Join(failed, err)
					}
				}
				done <- failed
			}()
		}
		for range cap(done) {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		all, err := h.TagHistory(admin(), repo(worldRepo), "latest", time.Time{}, 0)
		if err != nil || len(all) < 10 {
			t.Fatalf("%d entries, %v", len(all), err)
		}
		for i, e := range all[1:] {
			if !e.Since.Before(all[i].Since) || e.Digest == all[i].Digest {
				t.Errorf("entry %+v is followed by %+v", e, all[i])
			}
		}
		m, err := h.Manifest(admin(), repo(worldRepo), tagged("latest"))
		if (err == nil) == all[0].Digest.IsZero() || err == nil && m.Digest != all[0].Digest {
			t.Errorf("the tag is at %v, %v; its history ends at %+v", m, err, all[0])
		}
	})
}
