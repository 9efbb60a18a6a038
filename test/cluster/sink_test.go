package cluster

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// sink is an endpoint of notifications as they are: it fails sometimes, and is slow sometimes.
type sink struct {
	url string

	mu     sync.Mutex
	got    map[string]int // id of an event → how often
	first  []told         // in the order in which they came for the first time
	failed int
	sender string // address of the replica that was the last
}

// pace is how long the endpoint takes at least, so that whoever is killed while it delivers is in the middle of a batch.
const pace = 2 * time.Millisecond

// told is what a notification says.
type told struct {
	ID, Action string
	Target     struct{ Repository, Digest, Tag, MediaType string }
	Source     struct{ Addr string }
}

// what is the fact without its id.
func (n told) what() string {
	return what(n.Action, n.Target.Repository, n.Target.Digest, n.Target.Tag)
}

func what(action, repo, digest, tag string) string {
	return fmt.Sprintf("%s %s %s %s", action, repo, digest, tag)
}

func newSink(t *testing.T) *sink {
	s := &sink{got: map[string]int{}}
	server := httptest.NewServer(s)
	s.url = server.URL
	t.Cleanup(server.Close)
	return s
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	time.Sleep(pace)
	var envelope struct{ Events []told }
	if err := json.NewDecoder(r.Body).Decode(&envelope); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	switch n := rand.IntN(1000); {
	case n < 10:
		s.mu.Lock()
		s.failed++
		s.mu.Unlock()
		w.WriteHeader(http.StatusInternalServerError)
		return
	case n < 11:
		time.Sleep(1500 * time.Millisecond) // it takes it, and its sender does not hear of that
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range envelope.Events {
		s.sender = e.Source.Addr
		if s.got[e.ID]++; s.got[e.ID] == 1 {
			s.first = append(s.first, e)
		}
	}
}

// from is the port of the replica that told the last fact.
func (s *sink) from() (port string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, port, _ = net.SplitHostPort(s.sender)
	return port
}

// list is what has come, each once, and how many came again.
func (s *sink) list() (first []told, again int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.got {
		again += n - 1
	}
	return append(first, s.first...), again
}
