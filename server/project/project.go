// Package project owns namespaces: which project a repository belongs to, whether it is public, and how a project comes
// to be when somebody pushes to one that is not there yet. Members, settings and labels join it in time.
//
// Start reading at [Service.Visibility], which every authorization decision passes.
package project

import (
	"context"
	"errors"
	"path"

	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/recall"
)

// Options configure a Service.
type Options struct {
	DB            *metadb.DB
	DefaultPublic bool     // what a project is when a signed-in user's push makes it
	Public        []string // patterns (path.Match) of projects that are public whoever makes them
}

// Service answers for projects. Safe for concurrent use.
type Service struct {
	o     Options
	cache *recall.Cache[string, visibility]
}

// visibility is of a project that exists.
type visibility struct{ public bool }

// cacheSize bounds the remembered projects; an entry is some hundred bytes.
const cacheSize = 10_000

// New makes sure that the default project exists, and that it is public when this call makes it: the first pull of a
// new user should not need an explanation.
func New(ctx context.Context, o Options) (*Service, error) {
	for _, p := range o.Public {
		if _, err := path.Match(p, ""); err != nil {
			return nil, err
		}
	}
	s := &Service{o: o, cache: recall.New(recall.Options[string, visibility]{
		Max: cacheSize, Weigh: func(string, visibility) uint32 { return 1 }, Trust: o.DB.Trust(),
	})}
	o.DB.Watch(s.forget)
	if _, err := o.DB.Project(ctx, ref.DefaultProject); errors.Is(err, metadb.ErrNotFound) {
		return s, o.DB.Update(ctx, func(tx *metadb.Tx) error {
			_, _, err := tx.EnsureProject(ref.DefaultProject, true)
			return err
		})
	} else if err != nil {
		return nil, err
	}
	return s, nil
}

// Visibility says whether the project exists and whether it is public. A project that is not there is never
// remembered as absent, so one that another request makes is seen at once. A change by another replica is seen within
// metadb.TrustFor; one that cannot reach the database goes on with what it knew for metadb.Options.Outage.
func (s *Service) Visibility(ctx context.Context, name string) (exists, public bool, err error) {
	v, err := s.cache.Get(ctx, name, func(ctx context.Context) (visibility, error) {
		p, err := s.o.DB.Project(ctx, name)
		return visibility{p.Public}, err
	})
	if errors.Is(err, metadb.ErrNotFound) {
		return false, false, nil
	}
	return err == nil, v.public, err
}

// forget drops what another replica has changed.
func (s *Service) forget(c metadb.Change) {
	switch c.Kind {
	case metadb.ProjectChanged:
		s.cache.Drop(c.Key)
	case metadb.Everything:
		s.cache.Clear()
	}
}

// Ensure makes the project that owns a repository inside the transaction that first pushes to it, and returns its id.
// Whether the caller may do that was decided before; here only its visibility is: what anonymous callers push, they
// must be able to pull.
func (s *Service) Ensure(ctx context.Context, tx *metadb.Tx, name ref.Name) (int64, error) {
	project := name.Project()
	public := s.o.DefaultPublic || identity.From(ctx).Kind == identity.Anonymous
	for _, p := range s.o.Public {
		if ok, _ := path.Match(p, project); ok { // patterns were checked in New
			public = true
		}
	}
	p, _, err := tx.EnsureProject(project, public)
	return p.ID, err
}
