package metadb

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// Project is a namespace that owns repositories.
type Project struct {
	ID        int64
	Name      string
	Public    bool
	CreatedAt time.Time
}

func scanProject(rows *sql.Rows, p *Project) error {
	return rows.Scan(&p.ID, &p.Name, &p.Public, micros{&p.CreatedAt})
}

// Project finds a project by name, or ErrNotFound.
func (r *Reads) Project(ctx context.Context, name string) (Project, error) {
	return one(ctx, r.s, scanProject, `SELECT id, name, public, created_at FROM project WHERE name = $1`, name)
}

// EnsureProject finds the project or makes it with this visibility. created says which.
func (tx *Tx) EnsureProject(name string, public bool) (p Project, created bool, err error) {
	p, err = tx.Project(tx.ctx, name)
	if !errors.Is(err, ErrNotFound) {
		return p, false, err
	}
	n, err := tx.exec(`INSERT INTO project (name, public, created_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING`,
		name, public, toMicros(tx.now))
	if err != nil {
		return p, false, err
	}
	p, err = tx.Project(tx.ctx, name)
	return p, n == 1, err
}

// SetPublic changes a project's visibility; ErrNotFound when there is no such project.
func (tx *Tx) SetPublic(projectID int64, public bool) error {
	name, err := one(tx.ctx, tx.s, column[string], `UPDATE project SET public = $2 WHERE id = $1 RETURNING name`, projectID, public)
	if err == nil {
		tx.changed(ProjectChanged, projectID, name)
	}
	return err
}
