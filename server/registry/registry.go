// Package registry is the distribution rules without HTTP: uploads, blobs, manifests, tags, referrers, deletes and
// lists. A face parses a request, calls one method here and writes what it returns.
//
// Every exported method asks the access room on its first line. Content goes bytes first, row second: a crash leaves at
// most bytes that the row of their upload names, and Sweep removes them. What a method has acknowledged is durable.
//
// Small content (manifests, and blobs up to Limits.Inline) is kept in the metadata database, so that one durable write
// serves it; larger content is in the blob store. Reads of manifests, tags and small blobs are answered from bounded
// memory that is never stale on this node, and for a stated moment after changes on another (cache.go).
//
// Start reading at Service.Manifest and Service.PutManifest, then upload.go.
package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// gate is the authorization point.
type gate interface {
	Check(ctx context.Context, v identity.Verb, name ref.Name) error
	// CheckCatalog says which repositories the caller sees in lists: those of the scope for which sees is nil or true.
	CheckCatalog(ctx context.Context) (scope metadb.Scope, sees func(project metadb.Project, name string) bool, err error)
	CheckBase(ctx context.Context, probe bool) error
	CheckAdmin(ctx context.Context) error
	CheckSystem(ctx context.Context, v identity.Verb) error
}

// projects makes the project of a repository that is pushed to for the first time.
type projects interface {
	Ensure(ctx context.Context, tx *metadb.Tx, name ref.Name) (projectID int64, err error)
}

// Limits bound what requests may cost. The zero value of a field means its default.
type Limits struct {
	Manifest int64 // bytes of a manifest; default 4 MiB (OCI distribution v1.1.1, "Pushing Manifests", asks for no less)
	Inline   int64 // bytes of a blob that is kept in the database; negative is none; default 32 KiB
	Cache    int64 // bytes of memory for manifests and small blobs; default 32 MiB
	Page     int   // most names of one page of tags; default 10,000
	Catalog  int   // most names of one page of the catalog; default 1,000
}

// Options configure a Service. DB, Blobs, Access, Projects, Now and Log are required.
type Options struct {
	DB       *metadb.DB
	Blobs    blob.Store
	Access   gate
	Projects projects
	Limits   Limits

	NoDelete    bool                      // refuse all three deletes
	ReadOnly    bool                      // refuse everything that writes
	KeepUploads bool                      // do not sweep old uploads
	TellMounts  bool                      // a mount is an event: it then costs a transaction
	UploadAge   time.Duration             // uploads that nobody touched for so long are swept; default 7 days
	Lease       time.Duration             // how long an answer about a blob is a promise; default 24 h
	TrashHold   time.Duration             // how long deleted manifests can be brought back; 0: they are deleted at once
	CountCaches func(name string) Counter // may be nil

	// Room is asked before content is taken, with how many bytes will be written as far as that is known, and refuses it
	// with a Full fault; cheap. nil: there is always room.
	Room func(ctx context.Context, n int64) error

	Verify Verify // how often a blob is verified while it is sent
	// Suspect is called in the transaction that puts a blob aside because a pull found it to be wrong: somebody shall look
	// again. May be nil.
	Suspect func(tx *metadb.Tx, m metadb.Damage) error

	UploadKey []byte // signs the ids of uploads; the same on every replica; empty: one that dies with the process

	Now func() time.Time
	Log *slog.Logger
}

// Service is the engine. Safe for concurrent use.
type Service struct {
	o         Options
	limits    atomic.Pointer[Limits]
	repos     *cache[string, *metadb.Repository]
	tags      *cache[tagKey, oci.Digest]
	manifests *cache[contentKey, *Manifest]
	blobs     *cache[contentKey, *smallBlob]
	busy      busyUploads
	sessions  *sessions
}

type tagKey struct {
	repo int64
	tag  string
}

type contentKey struct {
	repo   int64
	digest oci.Digest
}

type uncounted struct{}

func (uncounted) Hit()  {}
func (uncounted) Miss() {}

// New returns a Service.
func New(o Options) *Service {
	o.UploadAge = orDefault(o.UploadAge, 7*24*time.Hour)
	o.Lease = orDefault(o.Lease, 24*time.Hour)
	count := o.CountCaches
	if count == nil {
		count = func(string) Counter { return uncounted{} }
	}
	limits := o.Limits.filled()
	trust := o.DB.Trust()
	// An eighth for each kind of small row, a half for manifests, a quarter for small blobs.
	s := &Service{
		o: o,
		repos: newCache(limits.Cache/8, func(k string, _ *metadb.Repository) uint32 {
			return uint32(len(k)*2 + 250)
		}, trust, count("repository")),
		tags: newCache(limits.Cache/8, func(k tagKey, _ oci.Digest) uint32 {
			return uint32(len(k.tag) + 250)
		}, trust, count("tag")),
		manifests: newCache(limits.Cache/2, func(_ contentKey, m *Manifest) uint32 {
			return uint32(len(m.Body) + 600)
		}, trust, count("manifest")),
		blobs: newCache(limits.Cache/4, func(_ contentKey, b *smallBlob) uint32 {
			return uint32(len(b.body) + 400)
		}, trust, count("blob")),
	}
	s.limits.Store(&limits)
	s.sessions = newSessions(o.UploadKey, o.UploadAge, o.DB.Alone(), o.Now)
	o.DB.WatchAll(s.forget)
	return s
}

// SetLimits changes the limits of a running service. The size of the memory for content is set once, by New.
func (s *Service) SetLimits(l Limits) {
	l = l.filled()
	s.limits.Store(&l)
}

func (l Limits) filled() Limits {
	l.Manifest = orDefault(l.Manifest, 4<<20)
	l.Inline = orDefault(l.Inline, 32<<10)
	l.Cache = orDefault(l.Cache, 32<<20)
	l.Page = orDefault(l.Page, 10_000)
	l.Catalog = orDefault(l.Catalog, 1_000)
	return l
}

func orDefault[T int | int64 | time.Duration](v, d T) T {
	if v == 0 {
		return d
	}
	return v
}

// Base answers the API's version check: nil when the caller needs no other credentials than it showed. probe is a
// request that only wants to know whether this is a registry.
func (s *Service) Base(ctx context.Context, probe bool) error {
	return s.o.Access.CheckBase(ctx, probe)
}

// repository finds a repository, or NAME_UNKNOWN.
func (s *Service) repository(ctx context.Context, name ref.Name) (*metadb.Repository, error) {
	return s.repos.get(ctx, name.String(), func(ctx context.Context) (*metadb.Repository, error) {
		r, err := s.o.DB.Repository(ctx, name.String())
		if errors.Is(err, metadb.ErrNotFound) {
			return nil, fault.New(fault.NotFound, fault.NameUnknown, "repository %s has nothing in it; push to it first, or check its name", name)
		}
		if err != nil {
			return nil, fmt.Errorf("registry: repository %s: %w", name, err)
		}
		return &r, nil
	})
}

// ensureRepository finds or makes the repository inside a transaction that pushes to it.
func (s *Service) ensureRepository(ctx context.Context, tx *metadb.Tx, name ref.Name) (int64, error) {
	if r, ok := s.repos.peek(name.String()); ok { // repositories are not deleted
		return r.ID, nil
	}
	project, err := s.o.Projects.Ensure(ctx, tx, name)
	if err != nil {
		return 0, err
	}
	r, err := tx.EnsureRepository(project, name.String())
	if err != nil {
		return 0, err
	}
	tx.AfterCommit(func() { s.repos.put(name.String(), &r) })
	return r.ID, nil
}

// writable refuses what changes content while the registry is read-only.
func (s *Service) writable() error {
	if s.o.ReadOnly {
		return fault.New(fault.Unsupported, fault.UnsupportedReason, "this registry is read-only for maintenance; pulls work, try the push again later")
	}
	return nil
}

// room refuses new content before the disk is so full that nothing works any more, deletes included.
func (s *Service) room(ctx context.Context, n int64) error {
	if s.o.Room == nil {
		return nil
	}
	return s.o.Room(ctx, n)
}

// Deletable says why nothing can be deleted here, as the configuration is; nil when it can.
func (s *Service) Deletable() error { return s.deletable() }

func (s *Service) deletable() error {
	if err := s.writable(); err != nil {
		return err
	}
	if s.o.NoDelete {
		return fault.New(fault.Unsupported, fault.UnsupportedReason, "deleting is switched off on this registry; an administrator can set storage.delete.enabled: true")
	}
	return nil
}

func unknownBlob(name ref.Name, d oci.Digest) *fault.Error {
	return fault.New(fault.NotFound, fault.BlobUnknown, "blob %s is not in %s", d, name)
}
