package registry

import (
	"context"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/maypok86/otter/v2"
)

// cache remembers what the database said, in bounded memory, and is never stale within this process: whoever changes a
// row calls drop after the commit and before the change is acknowledged.
//
// The race it closes: a reader that read the row before the commit must not store it after the drop. So each key
// belongs to a stripe with a generation; a reader notes the generation before it reads and stores only if it is still
// the same, under the lock that drop takes to move it on.
type cache[K comparable, V any] struct {
	kept    *otter.Cache[K, V]
	seed    maphash.Seed
	stripes [256]stripe
	hits    func()
	misses  func()
}

type stripe struct {
	mu  sync.Mutex
	gen atomic.Uint64
}

// Counter is how a cache reports its use; telemetry.Cache is one.
type Counter interface {
	Hit()
	Miss()
}

// newCache bounds the cache by the sum of the weights, in bytes.
func newCache[K comparable, V any](bytes int64, weigh func(K, V) uint32, count Counter) *cache[K, V] {
	return &cache[K, V]{
		kept: otter.Must(&otter.Options[K, V]{MaximumWeight: uint64(max(bytes, 1)), Weigher: weigh}),
		seed: maphash.MakeSeed(), hits: count.Hit, misses: count.Miss,
	}
}

// get returns the remembered value of the key, or what load reads. An error of load is returned and not remembered.
func (c *cache[K, V]) get(ctx context.Context, key K, load func(context.Context) (V, error)) (V, error) {
	if v, ok := c.kept.GetIfPresent(key); ok {
		c.hits()
		return v, nil
	}
	c.misses()
	s := c.stripe(key)
	gen := s.gen.Load()
	v, err := load(ctx)
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

// put remembers what a transaction has made, after its commit. It is for rows that never change or go away.
func (c *cache[K, V]) put(key K, v V) { c.kept.Set(key, v) }

// drop forgets the key, also for readers that are on their way to remember it.
func (c *cache[K, V]) drop(key K) {
	s := c.stripe(key)
	s.mu.Lock()
	s.gen.Add(1)
	c.kept.Invalidate(key)
	s.mu.Unlock()
}

func (c *cache[K, V]) stripe(key K) *stripe {
	return &c.stripes[maphash.Comparable(c.seed, key)%uint64(len(c.stripes))]
}
