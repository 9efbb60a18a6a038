package metadb

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/berth-registry/berth/fault"
)

// Repository is a named set of manifests, tags and blobs.
type Repository struct {
	ID        int64
	ProjectID int64
	Name      string // full: namespace/name
	Listed    bool   // appears in the catalog and in search: something was pushed to it that can be pulled
	Project   string // name of the project
	Public    bool   // of the project
	CreatedAt time.Time
}

const repositoryColumns = `SELECT r.id, r.project_id, r.name, r.listed, p.name, p.public, r.created_at
	FROM repository r JOIN project p ON p.id = r.project_id`

func scanRepository(rows *sql.Rows, r *Repository) error {
	return rows.Scan(&r.ID, &r.ProjectID, &r.Name, &r.Listed, &r.Project, &r.Public, micros{&r.CreatedAt})
}

// Repository finds a repository by its full name, or ErrNotFound.
func (r *Reads) Repository(ctx context.Context, name string) (Repository, error) {
	return one(ctx, r.s, scanRepository, repositoryColumns+` WHERE r.name = $1`, name)
}

// RepositoryFilter chooses listed repositories.
type RepositoryFilter struct {
	Scope    Scope
	Contains string // in the name, in any case
	Order    Order  // by name or created
}

// Repositories are listed repositories that the filter chooses, behind the key after, in the filter's order. The cost depends on the page, and on how many others lie between.
func (r *Reads) Repositories(ctx context.Context, f RepositoryFilter, after string, limit int) ([]Repository, error) {
	var w where
	w.and(`r.listed`)
	order, err := w.behind(f.Order, after, ordered{name: `r.name`, id: `r.id`})
	if err != nil {
		return nil, err
	}
	f.Scope.add(&w, r.d, `r.project_id`, `p.public`, `r.name`)
	w.contains(`r.name`, f.Contains)
	query, args := w.page(repositoryColumns, order, limit)
	return many(ctx, r.s, scanRepository, query, args...)
}

// RepositoryNames are the names of all listed repositories behind after, in the order of their bytes. The cost depends on the
// page alone.
func (r *Reads) RepositoryNames(ctx context.Context, after string, limit int) ([]string, error) {
	return many(ctx, r.s, column[string], `SELECT name FROM repository WHERE listed AND name > $1 ORDER BY name LIMIT $2`, after, limit)
}

// EnsureRepository finds the repository or makes it, unlisted, in the project.
func (tx *Tx) EnsureRepository(projectID int64, name string) (Repository, error) {
	r, err := tx.Repository(tx.ctx, name)
	if !errors.Is(err, ErrNotFound) {
		return r, err
	}
	if _, err := tx.exec(`INSERT INTO repository (project_id, name, listed, created_at) VALUES ($1, $2, FALSE, $3)
		ON CONFLICT (name) DO NOTHING`, projectID, name, toMicros(tx.now)); err != nil {
		return r, err
	}
	return tx.Repository(tx.ctx, name)
}

// SetListed says whether the repository appears in lists. Saying it again costs a read. A repository whose project was deleted
// meanwhile is a Conflict, and what was pushed to it is undone with the transaction; so it comes after what needs a list.
func (tx *Tx) SetListed(repoID int64, listed bool) error {
	name, err := one(tx.ctx, tx.s, column[string], `UPDATE repository SET listed = $2 WHERE id = $1 AND listed <> $2 RETURNING name`, repoID, listed)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err == nil && strings.HasPrefix(name, gone):
		return fault.New(fault.Conflict, fault.Unknown, "the project was deleted meanwhile; try again")
	}
	return err
}
