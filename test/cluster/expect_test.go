package cluster

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The tag that is moved only from where its mover expects it.
const (
	expectRepo  = "cluster/expect"
	expectTag   = "now"
	expectPath  = "/api/v1/repositories/" + expectRepo + "/-/tags/" + expectTag
	rivals      = 8
	expectMarks = 6 // few, so that the tag comes back to where it was
)

// step is a move of a tag.
type step struct{ from, to string }

// rival moves the tag on condition, and remembers what was acknowledged.
type rival struct {
	c         *client
	rnd       *rand.Rand
	marks     []manifest
	steps     []step
	rollbacks int // of them
	lost      int // moves that were refused because somebody else was there first
}

// TestExpectedMoves: of many who move a tag at once, through all replicas and each only from where it saw the tag, exactly
// those succeed who were right. The moves that were acknowledged are the steps of the tag's history, every one once and no
// other, so none was done over another's.
func TestExpectedMoves(t *testing.T) {
	f := newFleet(t)
	f.judge.strict.Store(true)
	f.judge.severed.Store(true)
	c := f.client()
	marks := make([]manifest, expectMarks)
	for i := range marks {
		marks[i] = markOf(fmt.Sprint("mark ", i))
		if a := c.putManifest(expectRepo, marks[i].digest, marks[i]); a.status != http.StatusCreated {
			t.Fatalf("push: %s", a)
		}
	}
	if a := c.putManifest(expectRepo, expectTag, marks[0]); a.status != http.StatusCreated {
		t.Fatalf("push: %s", a)
	}

	all := make([]*rival, rivals)
	var running sync.WaitGroup
	end := time.Now().Add(4 * time.Second)
	for i := range all {
		r := &rival{c: f.client(), rnd: rand.New(rand.NewPCG(uint64(i), 1)), marks: marks} //nolint:gosec // no secret
		all[i] = r
		running.Go(func() {
			// A slow machine gets the time that it takes until something was shown.
			for time.Now().Before(end) || len(r.steps) < 3 || r.lost < 3 {
				if f.judge.faults.Load() > 0 || time.Since(end) > time.Minute || !r.move(f.judge) {
					return
				}
			}
		})
	}
	running.Wait()

	var done []step
	rollbacks, lost := 0, 0
	for _, r := range all {
		done, rollbacks, lost = append(done, r.steps...), rollbacks+r.rollbacks, lost+r.lost
	}
	values := tagValues(t, f.direct(0))
	t.Logf("%d moves acknowledged, %d of them rollbacks; %d refused; %d entries of history", len(done), rollbacks, lost, len(values))
	if len(done) < rivals || rollbacks == 0 || rollbacks == len(done) || lost < rivals {
		t.Errorf("%d moves, %d rollbacks, %d refused: nothing was fought for", len(done), rollbacks, lost)
	}
	for _, fault := range unchained(values, done) {
		t.Error(fault)
	}
	if len(values) == 0 {
		return
	}
	time.Sleep(trustFor)
	for i := range f.replicas {
		if a := f.direct(i).head(expectRepo, "manifests", expectTag); a.digest() != values[len(values)-1] {
			t.Errorf("at the end the tag is %q at replica %d, and its history ends with %q", a.digest(), i, values[len(values)-1])
		}
	}
}

// move looks where the tag is and moves it from there, as far as it is still there. It is false when an answer is wrong.
func (r *rival) move(j *judge) bool {
	a := r.c.do(request{method: http.MethodGet, target: expectPath})
	var now struct{ Digest string }
	if a.status != http.StatusOK || json.Unmarshal(a.body, &now) != nil {
		j.fault("where the tag is: %s", a)
		return false
	}
	want := step{from: now.Digest}
	back := r.rnd.IntN(3) == 0
	body, method, target := map[string]string{"expect": now.Digest}, http.MethodPut, expectPath
	switch {
	case back: // to where it was before, whatever that is
		method, target = http.MethodPost, expectPath+"/rollback"
	default:
		for want.to = now.Digest; want.to == now.Digest; {
			want.to = r.marks[r.rnd.IntN(len(r.marks))].digest
		}
		body["digest"] = want.to
	}
	a = r.c.do(request{method: method, target: target, header: http.Header{"Content-Type": {"application/json"}}, body: encode(body)})
	var moved struct{ Digest, Before string }
	switch a.status {
	case http.StatusConflict:
		if !strings.Contains(string(a.body), "expected") {
			j.fault("%s: %s; want it to say that the tag was expected elsewhere", target, a)
			return false
		}
		r.lost++
		return true
	case http.StatusNotFound, http.StatusUnprocessableEntity:
		if back && len(r.steps) == 0 { // there was nothing before yet
			return true
		}
	case http.StatusOK:
		if err := json.Unmarshal(a.body, &moved); err != nil || moved.Before != want.from || !back && moved.Digest != want.to || moved.Digest == want.from {
			j.fault("%s from %s to %q: %s", target, want.from, want.to, a)
			return false
		}
		r.steps = append(r.steps, step{moved.Before, moved.Digest})
		if back {
			r.rollbacks++
		}
		return true
	}
	j.fault("%s %s: %s", method, target, a)
	return false
}

// tagValues are the values that the tag has had, the oldest first.
func tagValues(t *testing.T, c *client) (values []string) {
	t.Helper()
	for after := ""; ; {
		a := c.do(request{method: http.MethodGet, target: expectPath + "/history?limit=1000&after=" + after})
		var page struct {
			Items []struct{ Digest string }
			Next  string
		}
		if a.status != http.StatusOK || json.Unmarshal(a.body, &page) != nil {
			t.Fatalf("history: %s", a)
		}
		for _, e := range page.Items {
			values = append(values, e.Digest)
		}
		if after = page.Next; after == "" {
			slices.Reverse(values)
			return values
		}
	}
}

// unchained gives every contradiction between the values that a tag has had, one after the other, and the moves that were
// acknowledged: each has to be one step, and each step one of them.
func unchained(values []string, done []step) (faults []string) {
	left := map[step]int{}
	for i := 1; i < len(values); i++ {
		left[step{values[i-1], values[i]}]++
	}
	for _, s := range done {
		left[s]--
	}
	for s, n := range left {
		switch {
		case n < 0:
			faults = append(faults, fmt.Sprintf("%d moves from %.15s to %.15s were acknowledged and are not in the history: updates are lost", -n, s.from, s.to))
		case n > 0:
			faults = append(faults, fmt.Sprintf("%d moves from %.15s to %.15s are in the history and nobody had them acknowledged", n, s.from, s.to))
		}
	}
	slices.Sort(faults)
	return faults
}

// The judge of chains finds what is wrong.
func TestUnchained(t *testing.T) {
	for _, c := range []struct {
		name   string
		values string
		done   []step
		faults int
	}{
		{"a chain", "abab", []step{{"a", "b"}, {"b", "a"}, {"a", "b"}}, 0},
		{"a lost update", "ab", []step{{"a", "b"}, {"a", "c"}}, 1},
		{"the same twice from one place", "ab", []step{{"a", "b"}, {"a", "b"}}, 1},
		{"a move that nobody made", "abc", []step{{"a", "b"}}, 1},
		{"another from than there was", "abc", []step{{"a", "b"}, {"a", "c"}}, 2},
	} {
		if got := unchained(strings.Split(c.values, ""), c.done); len(got) != c.faults {
			t.Errorf("%s: %q, want %d faults", c.name, got, c.faults)
		}
	}
}
