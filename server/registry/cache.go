package registry

import (
	"context"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/recall"
)

// cache remembers what the database said; see package recall.
type cache[K comparable, V any] struct{ kept *recall.Cache[K, V] }

// Counter is how a cache reports its use; telemetry.Cache is one.
type Counter interface {
	Hit()
	Miss()
}

// newCache bounds the cache by the sum of the weights, in bytes.
func newCache[K comparable, V any](bytes int64, weigh func(K, V) uint32, trust func() recall.Trust, count Counter) *cache[K, V] {
	return &cache[K, V]{recall.New(recall.Options[K, V]{Max: bytes, Weigh: weigh, Trust: trust, Hit: count.Hit, Miss: count.Miss})}
}

func (c *cache[K, V]) get(ctx context.Context, key K, load func(context.Context) (V, error)) (V, error) {
	return c.kept.Get(ctx, key, load)
}

func (c *cache[K, V]) peek(key K) (V, bool) { return c.kept.Peek(key) }
func (c *cache[K, V]) put(key K, v V)       { c.kept.Put(key, v) }
func (c *cache[K, V]) drop(key K)           { c.kept.Drop(key) }

// forget drops what a transaction has changed: of another replica, or of another room.
func (s *Service) forget(c metadb.Change) {
	switch c.Kind {
	case metadb.TagChanged:
		s.tags.drop(tagKey{c.ID, c.Key})
		return
	case metadb.ManifestGone, metadb.BlobGone:
		if d, err := oci.ParseDigest(c.Key); err == nil {
			s.manifests.drop(contentKey{c.ID, d})
			s.blobs.drop(contentKey{c.ID, d})
			return
		}
	case metadb.ProjectChanged:
		s.repos.kept.Clear()
		return
	case metadb.AccountChanged, metadb.KeysChanged, metadb.GrantsChanged, metadb.RoleChanged, metadb.RobotChanged, metadb.TokenChanged,
		metadb.SessionChanged, metadb.ProviderChanged: // not ours
		return
	}
	s.repos.kept.Clear() // everything, or what a later version knows
	s.tags.kept.Clear()
	s.manifests.kept.Clear()
	s.blobs.kept.Clear()
}
