package metadb

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"
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

// ListFilter is a page of repositories.
type ListFilter struct {
	After      string // name behind which the page begins, "" for the first
	Limit      int
	PublicOnly bool // of public projects only
}

// Repositories are the names of listed repositories in the order of their bytes. The cost depends on the page, not on
// how many there are; with PublicOnly, on how many private ones lie between.
func (r *Reads) Repositories(ctx context.Context, f ListFilter) ([]string, error) {
	if f.PublicOnly {
		return many(ctx, r.s, column[string], `SELECT r.name FROM repository r JOIN project p ON p.id = r.project_id
			WHERE r.listed AND p.public AND r.name > $1 ORDER BY r.name LIMIT $2`, f.After, f.Limit)
	}
	return many(ctx, r.s, column[string], `SELECT name FROM repository WHERE listed AND name > $1 ORDER BY name LIMIT $2`, f.After, f.Limit)
}

// SearchRepositories are the listed repositories whose name contains the text (its case does not matter: names are
// lowercase), in the order of their names. It looks at names until limit are found: its cost grows with their number.
func (r *Reads) SearchRepositories(ctx context.Context, contains string, limit int, publicOnly bool) ([]Repository, error) {
	pattern := "%" + escapeLike(strings.ToLower(contains)) + "%"
	query := repositoryColumns + ` WHERE r.listed AND r.name LIKE $1 ESCAPE '\' ORDER BY r.name LIMIT $2`
	if publicOnly {
		query = repositoryColumns + ` WHERE r.listed AND p.public AND r.name LIKE $1 ESCAPE '\' ORDER BY r.name LIMIT $2`
	}
	return many(ctx, r.s, scanRepository, query, pattern, limit)
}

// RepositoryFilter chooses listed repositories.
type RepositoryFilter struct {
	Scope    Scope
	Contains string // in the name, in any case
}

// FindRepositories are listed repositories that the filter chooses, behind the name after, in the order of the bytes of
// their names. The cost depends on the page, and on how many others lie between.
func (r *Reads) FindRepositories(ctx context.Context, f RepositoryFilter, after string, limit int) ([]Repository, error) {
	var w where
	w.and(`r.listed AND r.name > ?`, after)
	f.Scope.add(&w, r.d, `r.project_id`, `p.public`)
	w.contains(`r.name`, f.Contains)
	query, args := w.page(repositoryColumns, `r.name`, limit)
	return many(ctx, r.s, scanRepository, query, args...)
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

// SetListed says whether the repository appears in lists. Saying it again costs a read.
func (tx *Tx) SetListed(repoID int64, listed bool) error {
	_, err := tx.exec(`UPDATE repository SET listed = $2 WHERE id = $1 AND listed <> $2`, repoID, listed)
	return err
}
