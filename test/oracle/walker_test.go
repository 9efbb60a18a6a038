package oracle

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/berth-registry/berth/internal/testkit/stand"
)

// errGone ends a walker's round: a replica that was being killed did not answer.
var errGone = errors.New("no answer")

// world is what the walkers share.
type world struct {
	*universe
	fleet    *stand.Fleet
	journal  *journal
	promise  time.Duration // for how long an answer about a blob vouches for it at least
	killing  atomic.Bool   // a replica is being killed: silence is no fault
	requests atomic.Int64
	rotten   map[string]bool // content that was spoiled and not repaired since, as far as is known → all of it is gone; see rot_test.go
	tally
}

// walker works in repositories of its own, one request after the other, so that it knows what they have.
type walker struct {
	*world
	id    int
	rnd   *rand.Rand
	repos []string
	now   state
	other state // what is the case when the last request, which had no answer, was done; nil

	remembers bool     // what is the case is kept in past, because a backup is made
	past      []moment // see restore_test.go
}

func newWalker(w *world, id int, seed uint64) *walker {
	repos := []string{fmt.Sprintf("model/w%da", id), fmt.Sprintf("model/w%db", id)}
	return &walker{world: w, id: id, rnd: rand.New(rand.NewPCG(seed, uint64(id))), repos: repos, now: newState(repos...)}
}

// op is a request and what it does to the model.
type op struct {
	what    string
	kind    kind // "": it is no step by itself
	repo    string
	keys    []string
	breaks  bool // what it reads is rotten: an answer may break off
	call    func(c *stand.Client) stand.Answer
	success int                                        // the status that means that it was done
	judge   func(r *repository, a stand.Answer) string // what is wrong with an answer; nil: only success is right
	effect  func(r *repository, promised time.Time)    // of success; nil: none. The zero time is "not promised"
}

// ask sends a request to some replica, judges the answer and changes the model by it.
func (w *walker) ask(o op) (stand.Answer, error) {
	w.requests.Add(1)
	replica := w.rnd.IntN(len(w.fleet.Replicas))
	a := o.call(w.fleet.Client(replica))
	entry := w.journal.note(w.id, o, replica, a)
	r := w.now[o.repo]
	if a.Status == 0 && !(o.breaks && brokeOff(a.Err)) {
		if !w.killing.Load() {
			return a, w.fault(o, "%s", a)
		}
		if o.effect != nil {
			w.other = w.now.clone()
			o.effect(w.other[o.repo], time.Time{})
			w.other[o.repo].review(w.universe)
		}
		return a, errGone
	}
	wrong := ""
	switch {
	case a.Status == 0: // it broke off
	case a.Status >= http.StatusInternalServerError:
		wrong = "is a failure of the server"
	case o.judge != nil:
		wrong = o.judge(r, a)
	case a.Status != o.success:
		wrong = fmt.Sprintf("should be %d", o.success)
	}
	if wrong != "" {
		return a, w.fault(o, "entry %d, answer %s %s", entry, a, wrong)
	}
	if a.Status == o.success && o.effect != nil {
		o.effect(r, a.Began.Add(w.promise))
	}
	r.review(w.universe)
	if a.Status == o.success && o.kind != "" {
		w.count(o.kind)
	}
	if w.remembers {
		w.remember(a.Began, a.Ended)
	}
	return a, nil
}

// brokeOff says that the registry has ended a connection, and not that it took too long, or is not there.
func brokeOff(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}

// fault is a difference that an answer shows, with all that happened to what it is about.
func (w *walker) fault(o op, format string, args ...any) error {
	return fmt.Errorf("%s: %s: %s\n%s", o.repo, o.what, fmt.Sprintf(format, args...), w.journal.about(w.id, o.repo, o.keys))
}

// walk takes steps until there are enough of them, or until a replica is gone.
func (w *walker) walk(steps int) error {
	for range steps {
		err := w.step()
		if errors.Is(err, errGone) {
			return nil
		}
		if err != nil {
			return err
		}
		if w.rnd.IntN(10) == 0 {
			time.Sleep(time.Duration(w.rnd.IntN(30)) * time.Millisecond)
		}
	}
	return nil
}

// settleWithin is how long replicas may take to hear of each other's changes.
const settleWithin = 2500 * time.Millisecond

// verify holds everything that the walker's repositories answer against the model. When a request had no answer, either
// outcome will do.
func (w *walker) verify() error {
	began := time.Now()
	for {
		differences := w.look()
		if len(differences) == 0 {
			return nil
		}
		if w.fleet.Make.Replicas == 1 || time.Since(began) > settleWithin {
			return w.report(differences)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (w *walker) look() []difference {
	sights := w.observe()
	var first []difference
	for _, s := range []state{w.now, w.other} {
		if s == nil {
			continue
		}
		all := s.compare(w.universe, sights)
		if len(all) == 0 {
			s.absorb(w.universe, sights)
			w.now, w.other = s, nil
			return nil
		}
		if first == nil {
			first = all
		}
	}
	return first
}

// observe sees all that the walker's repositories answer.
func (w *walker) observe() map[string]*sight {
	sights := map[string]*sight{}
	for _, repo := range w.repos {
		sights[repo] = observe(w.fleet.Client(w.rnd.IntN(len(w.fleet.Replicas))), w.universe, repo)
	}
	return sights
}

// report is the differences, with the history of the first few of them.
func (w *walker) report(all []difference) error {
	text := ""
	for i, d := range all {
		if i == 5 {
			text += fmt.Sprintf("… and %d more\n", len(all)-i)
			break
		}
		text += d.String() + "\n" + w.journal.about(w.id, d.repo, []string{d.key})
	}
	if w.other != nil {
		text += "(an unanswered request was counted as not done; counted as done there are differences, too)\n"
	}
	return errors.New(text)
}

// some is one of a list, by the dice.
func some[T any](w *walker, all []T) T { return all[w.rnd.IntN(len(all))] }

func (w *walker) someRepo() string { return some(w, w.repos) }

// present is a manifest that the repository has, "" when it has none.
func (w *walker) present(repo string) string {
	all := sorted(w.now[repo].manifests)
	if len(all) == 0 {
		return ""
	}
	return some(w, all)
}
