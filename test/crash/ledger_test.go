package crash

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
)

// ledger is what one writer knows about its own repository: for each thing, the values that it may have. An
// acknowledged write leaves one; a write without an answer leaves the old and the new.
type ledger struct {
	tags      map[string][]string // tag → digests, "" for none
	manifests map[string][]bool   // digest → is it there
	blobs     map[string][]bool
	uploads   []*openUpload

	known   map[string]manifest // what was ever pushed, to compare with
	content map[string]content
	history []string // the last operations, for a failure's report
}

// content makes a blob's bytes again, so that the ledger need not hold them.
type content struct {
	seed uint64
	size int
}

func (c content) bytes() []byte {
	b := make([]byte, c.size)
	var key [32]byte
	for i := range 8 {
		key[i] = byte(c.seed >> (8 * i))
	}
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}

// openUpload is an upload that its writer left open: the daemon acknowledged acked bytes, and a chunk that was never
// answered may have brought it up to sent.
type openUpload struct {
	location    string
	content     content
	acked, sent int64
}

func newLedger() *ledger {
	return &ledger{
		tags: map[string][]string{}, manifests: map[string][]bool{}, blobs: map[string][]bool{},
		known: map[string]manifest{}, content: map[string]content{},
	}
}

func (l *ledger) note(format string, args ...any) {
	if len(l.history) == 40 {
		l.history = slices.Delete(l.history, 0, 1)
	}
	l.history = append(l.history, fmt.Sprintf(format, args...))
}

// may adds a value that a write in flight may give; is replaces all when it was acknowledged.
func may[K, V comparable](m map[K][]V, key K, value V) {
	var none V
	if len(m[key]) == 0 {
		m[key] = []V{none}
	}
	if !slices.Contains(m[key], value) {
		m[key] = append(m[key], value)
	}
}

func is[K, V comparable](m map[K][]V, key K, value V) { m[key] = []V{value} }

// sure is the one value that key has; false when there are several or none.
func sure[K, V comparable](m map[K][]V, key K) (v V, ok bool) {
	if len(m[key]) != 1 {
		return v, false
	}
	return m[key][0], true
}

// having lists the keys that surely have a value, in an order that a seed repeats.
func having(m map[string][]bool, value bool) []string {
	var keys []string
	for k := range m {
		if v, ok := sure(m, k); ok && v == value {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// register is one tag that all writers move at once. Its value after a crash is one of those that a sequence of the
// moves could have left: any move that no acknowledged one came after.
type register struct {
	mu    sync.Mutex
	clock int
	moves []*move
}

type move struct {
	digest     string
	start, end int // end 0: never acknowledged
}

func (r *register) begin(digest string) *move {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clock++
	m := &move{digest: digest, start: r.clock}
	r.moves = append(r.moves, m)
	return m
}

func (r *register) acknowledge(m *move) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clock++
	m.end = r.clock
}

// allowed are the digests that the tag may have now, while nobody moves it.
func (r *register) allowed() map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	lastStart := 0 // of the acknowledged moves
	for _, m := range r.moves {
		if m.end > 0 {
			lastStart = max(lastStart, m.start)
		}
	}
	digests := map[string]bool{}
	if lastStart == 0 {
		digests[""] = true
	}
	for _, m := range r.moves {
		if m.end == 0 || m.end > lastStart {
			digests[m.digest] = true
		}
	}
	return digests
}

// settle makes what was seen the only value.
func (r *register) settle(digest string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.moves = nil
	if digest != "" {
		r.clock += 2
		r.moves = []*move{{digest: digest, start: r.clock - 1, end: r.clock}}
	}
}
