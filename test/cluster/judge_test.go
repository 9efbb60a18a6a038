package cluster

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

// judge holds every answer against what berthd may say at that moment, and gathers what is wrong.
type judge struct {
	t       *testing.T
	acks    atomic.Int64 // writes that were acknowledged
	reads   atomic.Int64
	busy    atomic.Int64 // answers 503
	silent  atomic.Int64 // requests without an answer
	killed  atomic.Int64 // connections that a replica did not answer, seen by the balancer
	faults  atomic.Int64
	strict  atomic.Bool // no replica may answer 5xx at all
	severed atomic.Bool // no connection may be killed either

	mu       sync.Mutex
	database outages
	bucket   outages
	replicas []outages
}

// outages are the times during which something was away. The last one may go on.
type outages []outage

type outage struct{ from, to time.Time }

func (o outages) overlaps(from, to time.Time, slack time.Duration) bool {
	for _, x := range o {
		if !x.from.After(to) && (x.to.IsZero() || !x.to.Add(slack).Before(from)) {
			return true
		}
	}
	return false
}

// trustFor is how far a replica may be behind another's acknowledged change, as docs/operate/ha.md promises.
const trustFor = 2 * time.Second

// recovery is how long after a dependency has come back berthd may still refuse what needs it.
const recovery = 5 * time.Second

// faultsShown bounds the log of a run that has gone wrong.
const faultsShown = 40

func (j *judge) fault(format string, args ...any) {
	j.t.Helper()
	switch n := j.faults.Add(1); {
	case n <= faultsShown:
		j.t.Errorf("%s "+format, append([]any{time.Now().Format("05.000")}, args...)...)
	case n == faultsShown+1:
		j.t.Errorf("more faults are not shown")
	}
}

// away notes that something is gone until the function that it returns is called.
func (j *judge) away(o *outages) (back func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	*o = append(*o, outage{from: time.Now()})
	i := len(*o) - 1
	return func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		(*o)[i].to = time.Now()
	}
}

// excused says whether a dependency was away while a request ran, or had just come back.
func (j *judge) excused(from, to time.Time) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.database.overlaps(from, to, recovery) || j.bucket.overlaps(from, to, recovery)
}

// replicaAway says whether a replica was down at any moment of the time.
func (j *judge) replicaAway(i int, from, to time.Time) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.replicas[i].overlaps(from, to, 100*time.Millisecond)
}

// trustedFrom is from when on a read that begins then has to see what was acknowledged: TrustFor ago, or as much before the
// beginning of an outage of the database that may still have been felt.
func (j *judge) trustedFrom(began, ended time.Time, trust time.Duration) time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()
	from := began
	for _, x := range j.database {
		if !x.from.After(ended) && (x.to.IsZero() || x.to.Add(recovery).After(began)) && x.from.Before(from) {
			from = x.from
		}
	}
	return from.Add(-trust)
}

// answered judges what a client got.
func (j *judge) answered(r request, a answer) {
	switch {
	case a.status == 0:
		j.silent.Add(1)
	case a.status == http.StatusServiceUnavailable:
		j.busy.Add(1)
		j.refused(r, a)
	case a.status >= http.StatusInternalServerError:
		j.fault("%s %s: %s", r.method, r.target, a)
	case a.status >= http.StatusBadRequest:
	case r.method == http.MethodGet || r.method == http.MethodHead:
		j.reads.Add(1)
	default:
		j.acks.Add(1)
	}
}

// refused judges a 503: that it says what is wrong and when to come again, and that something is wrong.
func (j *judge) refused(r request, a answer) {
	if j.strict.Load() || !j.excused(a.began, a.ended) {
		j.fault("%s %s: %s, while nothing was away", r.method, r.target, a)
	}
	if a.header.Get("Retry-After") == "" {
		j.fault("%s %s: 503 without Retry-After", r.method, r.target)
	}
	if r.method == http.MethodHead {
		return
	}
	var body struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal(a.body, &body); err != nil || len(body.Errors) != 1 || body.Errors[0].Code != "UNAVAILABLE" || body.Errors[0].Message == "" {
		j.fault("%s %s: 503 with the body %.200q", r.method, r.target, a.body)
	}
}

// exchanged judges what the balancer saw of the same: whether replicas that nobody touched kept their connections.
func (j *judge) exchanged(x testkit.Exchange) {
	switch {
	case x.Err == nil || x.GaveUp:
		return
	case j.severed.Load():
		j.fault("replica %d did not answer %s %s: %v", x.Replica, x.Method, x.Path, x.Err)
	case !j.replicaAway(x.Replica, x.Began, x.Ended) && !strings.HasSuffix(x.Path, "/readyz"):
		j.fault("replica %d, which runs, did not answer %s %s: %v", x.Replica, x.Method, x.Path, x.Err)
	}
	j.killed.Add(1)
}

func (j *judge) String() string {
	return fmt.Sprintf("%d writes acknowledged, %d reads answered, %d answers 503, %d requests without an answer (%d killed connections)",
		j.acks.Load(), j.reads.Load(), j.busy.Load(), j.silent.Load(), j.killed.Load())
}
