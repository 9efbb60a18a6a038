package oracle

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berth-registry/berth/internal/testkit/stand"
)

// journal is everything that was done, so that a difference can be told with what led to it, and nothing else.
type journal struct {
	*universe
	mu    sync.Mutex
	began time.Time
	count int
	all   []entry // the last of them
}

type entry struct {
	number  int
	at      time.Duration
	walker  int // -1: something that was done to the registry
	repo    string
	text    string
	keys    []string
	replica int
}

const (
	journalLength = 200_000
	reportLength  = 40
)

func newJournal(u *universe) *journal { return &journal{universe: u, began: time.Now()} }

// note adds a request and its answer.
func (j *journal) note(walker int, o op, replica int, a stand.Answer) int {
	answer := fmt.Sprint(a.Status)
	if a.Status == 0 || a.Status >= 400 {
		answer = fmt.Sprintf("%.120s", a)
	}
	return j.add(entry{
		at: a.Began.Sub(j.began), walker: walker, repo: o.repo, keys: o.keys, replica: replica,
		text: fmt.Sprintf("%s: %s (%s)", o.what, answer, a.Ended.Sub(a.Began).Round(100*time.Microsecond)),
	})
}

// event adds something that was done to the registry as a whole.
func (j *journal) event(format string, args ...any) {
	j.add(entry{at: time.Since(j.began), walker: -1, text: fmt.Sprintf(format, args...)})
}

func (j *journal) add(e entry) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	e.number = j.count
	j.count++
	if len(j.all) == journalLength {
		j.all = append(j.all[:0], j.all[journalLength/2:]...)
	}
	j.all = append(j.all, e)
	return e.number
}

// about is what the walker did to the keys in the repository, what others did to the same content, and what was done to the
// registry, the last of it.
func (j *journal) about(walker int, repo string, keys []string) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	touches := func(e entry) bool {
		return slices.ContainsFunc(e.keys, func(k string) bool { return slices.Contains(keys, k) })
	}
	var own, others []entry
	for _, e := range j.all {
		switch {
		case e.walker < 0:
			others = append(others, e)
		case e.walker == walker && e.repo == repo && (touches(e) || len(keys) == 1 && keys[0] == ""):
			own = append(own, e)
		case touches(e) && len(keys) > 0 && strings.HasPrefix(keys[0], "sha256:"):
			others = append(others, e)
		}
	}
	own, others = last(own, reportLength), last(others, reportLength/2)
	lines := slices.Concat(own, others)
	slices.SortFunc(lines, func(a, b entry) int { return a.number - b.number })
	var b strings.Builder
	for _, e := range lines {
		who := "everything"
		if e.walker >= 0 {
			who = fmt.Sprintf("%s at replica %d", e.repo, e.replica)
		}
		fmt.Fprintf(&b, "    %6d %9.3fs  %s: %s\n", e.number, e.at.Seconds(), who, e.text)
	}
	return b.String()
}

// of is about for content, whoever did it.
func (j *journal) of(digest string) string { return j.about(-1, "", []string{digest}) }

func last(all []entry, n int) []entry { return all[max(0, len(all)-n):] }
