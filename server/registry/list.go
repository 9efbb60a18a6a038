package registry

import (
	"context"
	"fmt"

	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// Names is a page of names in the order of their bytes.
type Names struct {
	Names []string
	More  bool // the next page begins behind the last name
}

// page asks for one name more than wanted, to know whether there are more.
func page(n, most int, read func(limit int) ([]string, error)) (*Names, error) {
	if n < 0 || n > most {
		n = most
	}
	if n == 0 {
		return &Names{Names: []string{}}, nil
	}
	names, err := read(n + 1)
	if err != nil {
		return nil, err
	}
	if len(names) > n {
		return &Names{names[:n], true}, nil
	}
	return &Names{Names: names}, nil
}

// Tags lists the tags of a repository behind after. n is how many are wanted, -1 for as many as the registry gives.
//
// Spec: OCI distribution v1.1.1, "Listing Tags".
func (s *Service) Tags(ctx context.Context, name ref.Name, after string, n int) (*Names, error) {
	if err := s.o.Access.Check(ctx, identity.Pull, name); err != nil {
		return nil, err
	}
	repo, err := s.repository(ctx, name)
	if err != nil {
		return nil, err
	}
	names, err := page(n, s.limits.Load().Page, func(limit int) ([]string, error) { return s.o.DB.Tags(ctx, repo.ID, after, limit) })
	if err != nil {
		return nil, fmt.Errorf("registry: tags of %s: %w", name, err)
	}
	return names, nil
}

// Catalog lists the repositories that the caller may see, behind after; n as in Tags.
func (s *Service) Catalog(ctx context.Context, after string, n int) (*Names, error) {
	publicOnly, err := s.o.Access.CheckCatalog(ctx)
	if err != nil {
		return nil, err
	}
	names, err := page(n, s.limits.Load().Catalog, func(limit int) ([]string, error) {
		return s.o.DB.Repositories(ctx, metadb.ListFilter{After: after, Limit: limit, PublicOnly: publicOnly})
	})
	if err != nil {
		return nil, fmt.Errorf("registry: catalog: %w", err)
	}
	return names, nil
}

// Search finds repositories whose name contains the text, among those that the caller may see.
func (s *Service) Search(ctx context.Context, text string, n int) ([]metadb.Repository, error) {
	publicOnly, err := s.o.Access.CheckCatalog(ctx)
	if err != nil {
		return nil, err
	}
	repos, err := s.o.DB.SearchRepositories(ctx, text, min(max(n, 1), 100), publicOnly)
	if err != nil {
		return nil, fmt.Errorf("registry: search: %w", err)
	}
	return repos, nil
}
