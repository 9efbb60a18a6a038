package metadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci/ref"
)

// Project is a namespace that owns repositories. A project that is made again under the name of a deleted one has another
// ID, and nothing of what the other had.
type Project struct {
	ID          int64
	Name        string
	Public      bool
	Description string
	Labels      map[string]string
	CreatedAt   time.Time
	CreatedBy   string
	UpdatedAt   time.Time // zero for one that was never changed
	Generation  int64
}

const projectColumns = `id, name, public, description, labels, created_at, created_by, updated_at, generation`

func scanProject(rows *sql.Rows, p *Project) error {
	return rows.Scan(&p.ID, &p.Name, &p.Public, &p.Description, jsonText{&p.Labels}, micros{&p.CreatedAt}, &p.CreatedBy, micros{&p.UpdatedAt}, &p.Generation)
}

// Project finds a project by name, or ErrNotFound.
func (r *Reads) Project(ctx context.Context, name string) (Project, error) {
	return one(ctx, r.s, scanProject, `SELECT `+projectColumns+` FROM project WHERE name = $1`, name)
}

// ProjectByID finds a project by number, or ErrNotFound.
func (r *Reads) ProjectByID(ctx context.Context, id int64) (Project, error) {
	return one(ctx, r.s, scanProject, `SELECT `+projectColumns+` FROM project WHERE id = $1 AND name < '~'`, id)
}

// Scope says which projects a list is about: all of them, or the public ones if Public, and those of IDs; a list of
// repositories is also about those that a pattern of Patterns fits, at least. A list of projects has no patterns.
type Scope struct {
	All      bool
	Public   bool
	IDs      []int64
	Patterns []ref.Pattern
}

// add adds the condition; id and public are columns of the project, name that of the repository.
func (s Scope) add(w *where, d *dialect, id, public, name string) {
	if s.All {
		return
	}
	var ways []string
	var values []any
	for _, p := range s.Patterns { // first: names are in the index that is read
		ways = append(ways, name+` LIKE ? ESCAPE '\'`)
		values = append(values, likePattern(p))
	}
	if s.Public {
		ways = append(ways, public)
	}
	if len(s.IDs) > 0 || len(ways) == 0 {
		ways = append(ways, id+` `+d.inNumbers("?"))
		values = append(values, d.numbersOf(s.IDs))
	}
	w.and(`(`+strings.Join(ways, ` OR `)+`)`, values...)
}

// likePattern is a text for LIKE that fits all names that the pattern fits, and maybe more.
func likePattern(p ref.Pattern) string {
	return strings.NewReplacer(`**/`, `%`, `**`, `%`, `*`, `%`, `_`, `\_`).Replace(p.String())
}

// ProjectFilter chooses projects.
type ProjectFilter struct {
	Scope    Scope
	Contains string // in the name
	Public   *bool
	Order    Order // by name or created
}

// FindProjects are projects that the filter chooses, behind the key after, in the filter's order.
func (r *Reads) FindProjects(ctx context.Context, f ProjectFilter, after string, limit int) ([]Project, error) {
	var w where
	order, err := w.behind(f.Order, after, ordered{name: `name`, id: `id`})
	if err != nil {
		return nil, err
	}
	w.and(`name < '~'`)
	f.Scope.add(&w, r.d, `id`, `public`, `name`)
	w.contains(`name`, f.Contains)
	if f.Public != nil {
		w.and(`public = ?`, *f.Public)
	}
	query, args := w.page(`SELECT `+projectColumns+` FROM project`, order, limit)
	return many(ctx, r.s, scanProject, query, args...)
}

// EnsureProject finds the project or makes it with this visibility. created says which.
func (tx *Tx) EnsureProject(name string, public bool) (p Project, created bool, err error) {
	return tx.ensureProject(Project{Name: name, Public: public})
}

// EnsureProjectOf is EnsureProject, and says of one that is made who made it.
func (tx *Tx) EnsureProjectOf(name string, public bool, createdBy string) (p Project, created bool, err error) {
	return tx.ensureProject(Project{Name: name, Public: public, CreatedBy: createdBy})
}

func (tx *Tx) ensureProject(want Project) (p Project, created bool, err error) {
	p, err = tx.Project(tx.ctx, want.Name)
	if !errors.Is(err, ErrNotFound) {
		return p, false, err
	}
	p, err = one(tx.ctx, tx.s, scanProject, insertProject+` ON CONFLICT (name) DO NOTHING RETURNING `+projectColumns,
		want.Name, want.Public, want.Description, toJSON(labels(want.Labels)), toMicros(tx.now), want.CreatedBy)
	if errors.Is(err, ErrNotFound) { // another transaction made it meanwhile
		p, err = tx.Project(tx.ctx, want.Name)
		return p, false, err
	}
	return p, err == nil, err
}

const insertProject = `INSERT INTO project (name, public, description, labels, created_at, created_by, generation) VALUES ($1, $2, $3, $4, $5, $6, $5)`

func labels(l map[string]string) map[string]string {
	if l == nil {
		return map[string]string{}
	}
	return l
}

// CreateProject makes a project and returns it; a name that is in use is a Conflict.
func (tx *Tx) CreateProject(p Project) (Project, error) {
	return one(tx.ctx, tx.s, scanProject, insertProject+` RETURNING `+projectColumns,
		p.Name, p.Public, p.Description, toJSON(labels(p.Labels)), toMicros(tx.now), p.CreatedBy)
}

// UpdateProject changes Public, Description and Labels of the project with p's ID; generation and errors are as of
// UpdateAccount.
func (tx *Tx) UpdateProject(p Project, generation int64) (Project, error) {
	got, err := one(tx.ctx, tx.s, scanProject, `UPDATE project SET public = $3, description = $4, labels = $5, updated_at = $6, generation = generation + 1
		WHERE id = $1 AND name < '~' AND (CAST($2 AS BIGINT) < 0 OR generation = $2) RETURNING `+projectColumns,
		p.ID, generation, p.Public, p.Description, toJSON(labels(p.Labels)), toMicros(tx.now))
	if err == nil {
		tx.changed(ProjectChanged, got.ID, got.Name)
	}
	return got, tx.whyNot(err, func() error { _, err := tx.ProjectByID(tx.ctx, p.ID); return err })
}

// SetPublic changes a project's visibility; ErrNotFound when there is no such project.
func (tx *Tx) SetPublic(projectID int64, public bool) error {
	name, err := one(tx.ctx, tx.s, column[string], `UPDATE project SET public = $2, generation = generation + 1 WHERE id = $1 RETURNING name`, projectID, public)
	if err == nil {
		tx.changed(ProjectChanged, projectID, name)
	}
	return err
}

// ProjectBefore is the number of the last project of a name that was deleted, 0 when none was.
func (r *Reads) ProjectBefore(ctx context.Context, name string) (int64, error) {
	return one(ctx, r.s, column[int64], `SELECT COALESCE(MAX(id), 0) FROM project WHERE name > $1 AND name < $2`, gone+name+gone, gone+name+"\x7f")
}

// gone begins the names of projects and repositories that are not there any more; nobody can ask for such a name.
const gone = "~"

// DeleteProject removes a project in which there is no manifest, neither living nor in the trash, with its robots and the
// grants in it. ErrNotFound says that there is none, a Conflict that it is not empty. A push into it that has begun is seen, or
// fails (see SetListed).
//
// Repositories that are empty stay as rows without a name: links of blobs refer to them, and to find those would mean to
// read all links of the registry. So a cached row of one leads nowhere.
func (tx *Tx) DeleteProject(id int64) error {
	name, err := one(tx.ctx, tx.s, column[string], `SELECT name FROM project WHERE id = $1 AND name < '~'`+tx.d.forUpdate, id)
	if err != nil {
		return err
	}
	repos, err := many(tx.ctx, tx.s, column[int64], `SELECT id FROM repository WHERE project_id = $1 ORDER BY id`+tx.d.forUpdate, id)
	if err != nil {
		return err
	}
	used, err := one(tx.ctx, tx.s, column[int64], `SELECT COUNT(*) FROM repository r WHERE r.project_id = $1
		AND (EXISTS (SELECT 1 FROM manifest m WHERE m.repo_id = r.id) OR EXISTS (SELECT 1 FROM trash t WHERE t.repo_id = r.id))`, id)
	if err != nil {
		return err
	}
	if used > 0 {
		some, err := tx.FilledRepositories(tx.ctx, id, "", someRepositories)
		if err != nil {
			return err
		}
		more := ""
		if used > int64(len(some)) {
			more = ", …"
		}
		return fault.New(fault.Conflict, fault.Unknown, "project %q is not empty: %d of its repositories have manifests, or deleted ones that can be restored (%s%s); delete and purge them first, or delete the project with force",
			name, used, strings.Join(some, ", "), more)
	}
	tx.changed(ProjectChanged, id, name)
	robots, err := many(tx.ctx, tx.s, column[int64], `SELECT id FROM robot WHERE project_id = $1`, id)
	if err != nil {
		return err
	}
	for _, robot := range robots {
		if err := tx.DeleteRobot(robot); err != nil {
			return err
		}
	}
	if err := tx.deleteGrants(`DELETE FROM access_grant WHERE project_id = $1 RETURNING `+grantColumns, id); err != nil {
		return err
	}
	if err := tx.unname(id, name); err != nil || len(repos) == 0 {
		return err
	}
	if _, err := tx.exec(`DELETE FROM tag_history WHERE repo_id `+tx.d.inNumbers("$1"), tx.d.numbersOf(repos)); err != nil {
		return err
	}
	_, err = tx.exec(`UPDATE repository SET name = $2 || name, listed = FALSE WHERE project_id = $1`, id, fmt.Sprintf("%s%d/", gone, id))
	return err
}

// unname leaves of a project the row alone, with its old name and its number in the new one: see ProjectBefore.
func (tx *Tx) unname(id int64, name string) error {
	_, err := tx.exec(`UPDATE project SET name = $2, public = FALSE, description = '', labels = '{}', created_by = '' WHERE id = $1`, id, fmt.Sprintf("%s%s%s%d", gone, name, gone, id))
	return err
}

// someRepositories are as many as a refusal names.
const someRepositories = 5

// FilledRepositories are the names of up to limit repositories of a project behind that name in which there are manifests,
// living or in the trash.
func (r *Reads) FilledRepositories(ctx context.Context, projectID int64, after string, limit int) ([]string, error) {
	return many(ctx, r.s, column[string], `SELECT r.name FROM repository r WHERE r.project_id = $1 AND r.name > $2 AND r.name < '~'
		AND (EXISTS (SELECT 1 FROM manifest m WHERE m.repo_id = r.id) OR EXISTS (SELECT 1 FROM trash t WHERE t.repo_id = r.id))
		ORDER BY r.name LIMIT $3`, projectID, after, limit)
}

// CountRepositories is how many listed repositories a project has.
func (r *Reads) CountRepositories(ctx context.Context, projectID int64) (int64, error) {
	return one(ctx, r.s, column[int64], `SELECT COUNT(*) FROM repository WHERE project_id = $1 AND listed`, projectID)
}
