package cluster

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// ledger is what one writer knows about its own repository, in which nobody else writes. What an answer confirmed is sure.
// What got no answer may happen at any later moment, so its key is never used again: at the end it may be either.
type ledger struct {
	tags      map[string]*slot  // by name
	manifests map[string]*thing // by digest
	blobs     map[string]*thing
	bodies    map[string]manifest
	contents  map[string]content
	open      []*upload // begun, and to be gone on with or left
	expected  []fact    // what the endpoint of notifications has to be told
}

func newLedger() *ledger {
	return &ledger{
		tags: map[string]*slot{}, manifests: map[string]*thing{}, blobs: map[string]*thing{},
		bodies: map[string]manifest{}, contents: map[string]content{},
	}
}

// thing is content in a repository: whether it is there.
type thing struct {
	there  bool
	unsure bool
	kept   bool // for pullers: it is never deleted
}

func (x *thing) sure() bool { return x != nil && x.there && !x.unsure }

// slot is a tag: the digest that it surely has, "" for none, and what it may have instead.
type slot struct {
	digest string
	maybe  []string
	unsure bool
}

// fact is what a notification has to say, as told.what has it.
type fact string

// upload is one that is sent in chunks.
type upload struct {
	location string
	content  content
	acked    int // bytes that were confirmed
	sent     int // that may have arrived
}

// budget is how many bytes of content a run may still write.
type budget struct{ left atomic.Int64 }

func (b *budget) take(n int) bool {
	if b.left.Add(-int64(n)) >= 0 {
		return true
	}
	b.left.Add(int64(n))
	return false
}

// shelf is what pullers may ask for: images that were acknowledged and that nobody deletes.
type shelf struct {
	mu     sync.Mutex
	images []shelved
	common []string // digests of blobs that writers share, in the order in which somebody had them acknowledged
	owner  map[string]string
}

type shelved struct {
	repo string
	tag  string // that nobody moves; "" for none
	manifest
	since time.Time
}

func (s *shelf) add(i shelved) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.images = append(s.images, i)
}

// some is a random image, mostly one of the newest.
func (s *shelf) some(rnd *rand.Rand) (i shelved, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.images) == 0 {
		return i, false
	}
	n := rnd.IntN(len(s.images))
	if rnd.IntN(2) == 0 {
		n = len(s.images) - 1 - rnd.IntN(min(10, len(s.images)))
	}
	return s.images[n], true
}

// offer says that a repository has a blob that it will keep, for others to mount.
func (s *shelf) offer(repo, digest string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner == nil {
		s.owner = map[string]string{}
	}
	if _, known := s.owner[digest]; !known {
		s.owner[digest] = repo
		s.common = append(s.common, digest)
	}
}

// offered is a random blob that some other repository has.
func (s *shelf) offered(rnd *rand.Rand, not string) (repo, digest string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.common) == 0 {
		return "", "", false
	}
	digest = s.common[rnd.IntN(len(s.common))]
	repo = s.owner[digest]
	return repo, digest, repo != not
}
