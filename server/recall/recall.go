// Package recall is bounded memory for what the database said: the cache that engines put between requests and rows.
//
// It is never stale within a process: whoever changes a row calls [Cache.Drop] after the commit and before the change is
// acknowledged. What other processes change arrives by signals (see metadb), whose owner also says how far what is
// remembered may be believed: [Trust]. A cache entry carries no right; it is as good as the row it came from.
//
// It may assume nothing of what it keeps, except that a loader reads it from the database. Start reading at [Cache.Get].
package recall

import (
	"context"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/maypok86/otter/v2"

	"github.com/berth-registry/berth/fault"
)

// Trust is how far what was remembered may be believed.
type Trust uint8

// The degrees of trust.
const (
	// Current is as good as the database, or behind it by no more than is promised.
	Current Trust = iota
	// Doubtful means that nothing was heard of the database for a moment: ask it, and use what is remembered only when it
	// does not answer.
	Doubtful
	// Expired is Doubtful for too long: do not use it.
	Expired
)

// Options configure a Cache. Weigh and Max are required.
type Options[K comparable, V any] struct {
	Max   int64 // the sum of the weights, mostly bytes
	Weigh func(K, V) uint32
	// Trust is asked at every use; nil: always Current.
	Trust func() Trust
	// Hit and Miss count; nil: nobody counts.
	Hit, Miss func()
}

// Cache remembers values by key. Safe for concurrent use.
//
// The race it closes: a reader that read the row before the commit must not store it after the drop. So each key
// belongs to a stripe with a generation; a reader notes the generation before it reads and stores only if it is still
// the same, under the lock that Drop takes to move it on.
type Cache[K comparable, V any] struct {
	kept    *otter.Cache[K, V]
	trust   func() Trust
	hit     func()
	miss    func()
	seed    maphash.Seed
	stripes [256]stripe
}

type stripe struct {
	mu  sync.Mutex
	gen atomic.Uint64
}

// New makes a cache.
func New[K comparable, V any](o Options[K, V]) *Cache[K, V] {
	nothing := func() {}
	if o.Hit == nil {
		o.Hit = nothing
	}
	if o.Miss == nil {
		o.Miss = nothing
	}
	return &Cache[K, V]{
		kept:  otter.Must(&otter.Options[K, V]{MaximumWeight: uint64(max(o.Max, 1)), Weigher: o.Weigh}),
		trust: o.Trust, hit: o.Hit, miss: o.Miss, seed: maphash.MakeSeed(),
	}
}

// Get returns the remembered value of the key, or what load reads. An error of load is returned and not remembered. When
// what is remembered is doubtful, load is asked, and its Unavailable answered with what is remembered.
func (c *Cache[K, V]) Get(ctx context.Context, key K, load func(context.Context) (V, error)) (V, error) {
	v, ok := c.kept.GetIfPresent(key)
	if ok && (c.trust == nil || c.trust() == Current) {
		c.hit()
		return v, nil
	}
	return c.load(ctx, key, v, ok, load)
}

func (c *Cache[K, V]) load(ctx context.Context, key K, old V, has bool, load func(context.Context) (V, error)) (V, error) {
	s := c.stripe(key)
	gen := s.gen.Load()
	v, err := load(ctx)
	if err != nil && has && fault.Is(err, fault.Unavailable) && c.trust() != Expired { // without trust there is no has
		c.hit()
		return old, nil
	}
	c.miss()
	if err != nil {
		return v, err
	}
	s.mu.Lock()
	if s.gen.Load() == gen {
		c.kept.Set(key, v)
	}
	s.mu.Unlock()
	return v, nil
}

// Peek returns what is remembered of a key that cannot change.
func (c *Cache[K, V]) Peek(key K) (V, bool) { return c.kept.GetIfPresent(key) }

// Put remembers what a transaction has made, after its commit. It is for rows that never change or go away.
func (c *Cache[K, V]) Put(key K, v V) { c.kept.Set(key, v) }

// Drop forgets the key, also for readers that are on their way to remember it.
func (c *Cache[K, V]) Drop(key K) {
	s := c.stripe(key)
	s.mu.Lock()
	s.gen.Add(1)
	c.kept.Invalidate(key)
	s.mu.Unlock()
}

// Clear forgets everything, also for readers that are on their way.
func (c *Cache[K, V]) Clear() {
	for i := range c.stripes {
		s := &c.stripes[i]
		s.mu.Lock()
		s.gen.Add(1)
		s.mu.Unlock()
	}
	c.kept.InvalidateAll()
}

func (c *Cache[K, V]) stripe(key K) *stripe {
	return &c.stripes[maphash.Comparable(c.seed, key)%uint64(len(c.stripes))]
}
