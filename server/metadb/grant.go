package metadb

import (
	"context"
	"database/sql"
	"time"
)

// SubjectKind says what a grant is for.
type SubjectKind int16

// The kinds of subjects.
const (
	AccountSubject  SubjectKind = 1
	GroupSubject    SubjectKind = 2
	RobotSubject    SubjectKind = 3
	SignedInSubject SubjectKind = 4 // every account; robots have what they were granted
	EveryoneSubject SubjectKind = 5 // and callers without credentials
)

// String is the word for it: user, group, robot, signed-in, everyone.
func (k SubjectKind) String() string {
	names := []string{"nobody", "user", "group", "robot", "signed-in", "everyone"}
	if k < 0 || int(k) >= len(names) {
		k = 0
	}
	return names[k]
}

// Subject is who a grant is for.
type Subject struct {
	Kind SubjectKind
	ID   int64 // of the account, group or robot; 0 for the kinds without one
}

// Grant says what its subject may do, or may not, and where. A member of a project is a grant with a Project and neither
// Pattern nor Deny.
type Grant struct {
	ID      int64
	Subject Subject
	Project int64  // number of the project; 0 is the whole registry
	Pattern string // of repositories (ref.Pattern); "" is all of the project, or of the registry
	Role    string // whose verbs; "" for those of Verbs
	Verbs   []string
	Deny    bool
	// From and Until are when it holds; zero is always.
	From, Until time.Time
	CreatedAt   time.Time
	CreatedBy   string
	UpdatedAt   time.Time
	Generation  int64
}

const grantColumns = `id, subject_kind, subject_id, project_id, pattern, role, verbs, deny, valid_from, valid_until, created_at, created_by, updated_at, generation`

func scanGrant(rows *sql.Rows, g *Grant) error {
	return rows.Scan(&g.ID, &g.Subject.Kind, &g.Subject.ID, &g.Project, &g.Pattern, &g.Role, jsonText{&g.Verbs}, &g.Deny,
		micros{&g.From}, micros{&g.Until}, micros{&g.CreatedAt}, &g.CreatedBy, micros{&g.UpdatedAt}, &g.Generation)
}

// Grant finds a grant by number, or ErrNotFound.
func (r *Reads) Grant(ctx context.Context, id int64) (Grant, error) {
	return one(ctx, r.s, scanGrant, `SELECT `+grantColumns+` FROM access_grant WHERE id = $1`, id)
}

// GrantsOf are all grants of a subject, in the order of their numbers.
func (r *Reads) GrantsOf(ctx context.Context, s Subject) ([]Grant, error) {
	return many(ctx, r.s, scanGrant, `SELECT `+grantColumns+` FROM access_grant WHERE subject_kind = $1 AND subject_id = $2 ORDER BY id`, s.Kind, s.ID)
}

// GrantFilter chooses grants. The zero filter chooses all.
type GrantFilter struct {
	Project *int64  // of this project alone; 0 is those of the whole registry
	Subject Subject // the zero Subject is any
	Members bool    // only those that make a member
	Role    string  // "" is any
}

// Grants are grants that the filter chooses, behind the number after, in the order of their numbers.
func (r *Reads) Grants(ctx context.Context, f GrantFilter, after int64, limit int) ([]Grant, error) {
	var w where
	w.and(`id > ?`, after)
	if f.Project != nil {
		w.and(`project_id = ?`, *f.Project)
	}
	if f.Subject != (Subject{}) {
		w.and(`subject_kind = ? AND subject_id = ?`, f.Subject.Kind, f.Subject.ID)
	}
	if f.Members {
		w.and(`project_id > 0 AND pattern = '' AND NOT deny AND role <> ''`)
	}
	if f.Role != "" {
		w.and(`role = ?`, f.Role)
	}
	query, args := w.page(`SELECT `+grantColumns+` FROM access_grant`, `id`, limit)
	return many(ctx, r.s, scanGrant, query, args...)
}

// CreateGrant makes a grant and returns it. One that says the same of the same subject is a Conflict.
func (tx *Tx) CreateGrant(g Grant) (Grant, error) {
	tx.grantChanged(g)
	return one(tx.ctx, tx.s, scanGrant, `INSERT INTO access_grant (subject_kind, subject_id, project_id, pattern, role, verbs, deny, valid_from, valid_until,
		created_at, created_by, updated_at, generation) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $10, $10) RETURNING `+grantColumns,
		g.Subject.Kind, g.Subject.ID, g.Project, g.Pattern, g.Role, toJSON(nonNil(g.Verbs)), g.Deny, toMicros(g.From), toMicros(g.Until), toMicros(tx.now), g.CreatedBy)
}

// UpdateGrant changes pattern, role, verbs, deny and times of the grant with g's ID; its subject and project stay. Generation
// and errors are as of UpdateAccount, and as of CreateGrant.
func (tx *Tx) UpdateGrant(g Grant, generation int64) (Grant, error) {
	got, err := one(tx.ctx, tx.s, scanGrant, `UPDATE access_grant SET pattern = $3, role = $4, verbs = $5, deny = $6, valid_from = $7, valid_until = $8,
		updated_at = $9, generation = generation + 1 WHERE id = $1 AND (CAST($2 AS BIGINT) < 0 OR generation = $2) RETURNING `+grantColumns,
		g.ID, generation, g.Pattern, g.Role, toJSON(nonNil(g.Verbs)), g.Deny, toMicros(g.From), toMicros(g.Until), toMicros(tx.now))
	if err == nil {
		tx.grantChanged(got)
	}
	return got, tx.whyNot(err, func() error { _, err := tx.Grant(tx.ctx, g.ID); return err })
}

// DeleteGrant removes a grant, or says ErrNotFound.
func (tx *Tx) DeleteGrant(id int64) error {
	g, err := one(tx.ctx, tx.s, scanGrant, `DELETE FROM access_grant WHERE id = $1 RETURNING `+grantColumns, id)
	if err == nil {
		tx.grantChanged(g)
	}
	return err
}

func (tx *Tx) grantChanged(g Grant) { tx.changed(GrantsChanged, g.Subject.ID, g.Subject.Kind.String()) }

// deleteGrantsOf removes what a subject was granted, and says that it is gone.
func (tx *Tx) deleteGrantsOf(s Subject) error {
	tx.changed(GrantsChanged, s.ID, s.Kind.String())
	_, err := tx.exec(`DELETE FROM access_grant WHERE subject_kind = $1 AND subject_id = $2`, s.Kind, s.ID)
	return err
}

// deleteGrants runs a DELETE that returns the grants which it removes.
func (tx *Tx) deleteGrants(query string, args ...any) error {
	gone, err := many(tx.ctx, tx.s, scanGrant, query, args...)
	for _, g := range gone {
		tx.grantChanged(g)
	}
	return err
}
