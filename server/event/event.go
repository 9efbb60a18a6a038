// Package event names the facts that happen in a registry. An engine writes an event in the transaction that makes it
// true (the metadata database keeps the outbox), and readers follow it by cursor: webhooks, scans, audit, caches of other
// replicas. Nothing is announced that did not happen, and nothing that happened is lost.
//
// A kind and its fields, once released, keep their meaning.
package event

import (
	"context"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/identity"
)

// Event is a fact, written in the transaction that made it true and read afterwards by cursor.
type Event struct {
	Cursor     Cursor // where it stands; set by the database
	At         time.Time
	Kind       string
	Repository string
	Digest     oci.Digest
	Tag        string
	Principal  string
	Payload    string // JSON, or ""
}

// Cursor is a place in the sequence of events; the zero value is before the first. Keep it as it is: concurrent
// transactions of PostgreSQL take their ids in one order and commit in another, so an id alone could skip what commits
// late. Epoch is the transaction's number; a reader only sees epochs before which none is still running. On SQLite it
// is 0.
type Cursor struct {
	Epoch int64
	ID    int64
}

// Before reports whether c lies before d.
func (c Cursor) Before(d Cursor) bool { return c.Epoch < d.Epoch || c.Epoch == d.Epoch && c.ID < d.ID }

// The kinds of events.
const (
	KindManifestPushed  = "manifest.pushed"
	KindManifestDeleted = "manifest.deleted"
	KindManifestPurged  = "manifest.purged"
	KindManifestSigned  = "manifest.signed"
	KindTagMoved        = "tag.moved"
	KindTagDeleted      = "tag.deleted"
	KindBlobMounted     = "blob.mounted"
	KindBlobDeleted     = "blob.deleted"
	KindBlobDamaged     = "blob.damaged"
	KindBlobRepaired    = "blob.repaired"
)

func fact(ctx context.Context, kind, repository string, d oci.Digest, tag string) Event {
	return Event{Kind: kind, Repository: repository, Digest: d, Tag: tag, Principal: identity.From(ctx).String()}
}

// ManifestPushed says that a repository got a manifest that it did not have.
func ManifestPushed(ctx context.Context, repository string, d oci.Digest) Event {
	return fact(ctx, KindManifestPushed, repository, d, "")
}

// ManifestDeleted says that a repository lost a manifest, by its digest.
func ManifestDeleted(ctx context.Context, repository string, d oci.Digest) Event {
	return fact(ctx, KindManifestDeleted, repository, d, "")
}

// ManifestPurged says that a manifest, which was deleted before, was taken out of the trash on request and cannot be brought
// back any more.
func ManifestPurged(ctx context.Context, repository string, d oci.Digest) Event {
	return fact(ctx, KindManifestPurged, repository, d, "")
}

// ManifestSigned says that a manifest got a signature in the form of containers/image, of that name.
func ManifestSigned(ctx context.Context, repository string, d oci.Digest, signature string) Event {
	return fact(ctx, KindManifestSigned, repository, d, "").WithDetail(ctx, Detail{Signature: signature})
}

// TagMoved says that a tag points at d now; it may have pointed elsewhere, or not have existed.
func TagMoved(ctx context.Context, repository, tag string, d oci.Digest) Event {
	return fact(ctx, KindTagMoved, repository, d, tag)
}

// TagDeleted says that a tag, which pointed at d, is gone.
func TagDeleted(ctx context.Context, repository, tag string, d oci.Digest) Event {
	return fact(ctx, KindTagDeleted, repository, d, tag)
}

// BlobMounted says that a repository got a blob of another one without an upload.
func BlobMounted(ctx context.Context, repository string, d oci.Digest) Event {
	return fact(ctx, KindBlobMounted, repository, d, "")
}

// BlobDeleted says that a blob was taken out of a repository.
func BlobDeleted(ctx context.Context, repository string, d oci.Digest) Event {
	return fact(ctx, KindBlobDeleted, repository, d, "")
}

// Damage says that the bytes of a blob were found to be wrong or gone (KindBlobDamaged), or are right again
// (KindBlobRepaired). The repository is one of those that need it, "" when none does.
func Damage(ctx context.Context, kind, repository string, d oci.Digest) Event {
	return fact(ctx, kind, repository, d, "")
}
