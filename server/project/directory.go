package project

import (
	"context"
	"errors"
	"path"
	"slices"

	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/recall"
)

// DirectoryOptions configure a Directory.
type DirectoryOptions struct {
	DB            *metadb.DB
	DefaultPublic bool     // what a project is when a signed-in user's push makes it
	Public        []string // patterns (path.Match) of projects that are public whoever makes them
}

// Directory knows which projects there are. It is asked by those who decide and by those who push, so it asks nobody. Safe for
// concurrent use.
type Directory struct {
	o     DirectoryOptions
	cache *recall.Cache[string, visibility]
}

// visibility is of a project that exists.
type visibility struct {
	number int64
	public bool
}

// cacheSize bounds the remembered projects; an entry is some hundred bytes.
const cacheSize = 10_000

// NewDirectory makes sure that the default project exists, and that it is public when this call makes it: the first pull of a
// new user should not need an explanation.
func NewDirectory(ctx context.Context, o DirectoryOptions) (*Directory, error) {
	for _, p := range o.Public {
		if _, err := path.Match(p, ""); err != nil {
			return nil, err
		}
	}
	s := &Directory{o: o, cache: recall.New(recall.Options[string, visibility]{
		Max: cacheSize, Weigh: func(string, visibility) uint32 { return 1 }, Trust: o.DB.Trust(),
	})}
	o.DB.WatchAll(s.forget)
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

// Lookup finds a project by name: its number, 0 when it is not there, and whether it is public. A project that is not there is
// never remembered as absent, so one that another request makes is seen at once. A change by another replica is seen within
// metadb.TrustFor; one that cannot reach the database goes on with what it knew for metadb.Options.Outage.
func (s *Directory) Lookup(ctx context.Context, name string) (number int64, public bool, err error) {
	v, err := s.cache.Get(ctx, name, func(ctx context.Context) (visibility, error) {
		p, err := s.o.DB.Project(ctx, name)
		return visibility{p.ID, p.Public}, err
	})
	if errors.Is(err, metadb.ErrNotFound) {
		return 0, false, nil
	}
	return v.number, v.public, err
}

// Before is the number of the last project of a name that was deleted, 0 when none was.
func (s *Directory) Before(ctx context.Context, name string) (int64, error) {
	return s.o.DB.ProjectBefore(ctx, name)
}

// forget drops what was changed.
func (s *Directory) forget(c metadb.Change) {
	switch c.Kind {
	case metadb.ProjectChanged:
		s.cache.Drop(c.Key)
	case metadb.Everything:
		s.cache.Clear()
	}
}

// Ensure makes the project that owns a repository inside the transaction that first pushes to it, and returns its id.
// Whether the caller may do that was decided before; here only its visibility is: what anonymous callers push, they
// must be able to pull. Who makes a project by that rules it.
func (s *Directory) Ensure(ctx context.Context, tx *metadb.Tx, name ref.Name) (int64, error) {
	who := identity.From(ctx)
	project := name.Project()
	public := s.o.DefaultPublic || who.Kind == identity.Anonymous || s.publicByName(project)
	p, created, err := tx.EnsureProjectOf(project, public, who.String())
	if err == nil && created {
		err = rule(tx, who, p.ID)
	}
	return p.ID, err
}

// publicByName reports whether projects of that name are made public. The patterns were checked before.
func (s *Directory) publicByName(project string) bool {
	return slices.ContainsFunc(s.o.Public, func(pattern string) bool {
		ok, _ := path.Match(pattern, project)
		return ok
	})
}

// rule makes who makes a project its first administrator, unless it is one of all projects.
func rule(tx *metadb.Tx, who identity.Principal, project int64) error {
	if who.Kind != identity.User || who.ID == 0 || who.Admin || who.Delegated {
		return nil
	}
	_, err := tx.CreateGrant(metadb.Grant{
		Subject: metadb.Subject{Kind: metadb.AccountSubject, ID: who.ID}, Project: project, Role: identity.Admin, CreatedBy: who.String(),
	})
	return err
}
