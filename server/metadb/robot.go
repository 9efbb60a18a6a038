package metadb

import (
	"context"
	"database/sql"
	"time"
)

// Robot is a machine account.
type Robot struct {
	ID           int64
	Name         string // no account has it
	Project      int64  // that it belongs to; 0 is the registry
	Description  string
	Disabled     bool
	ExpiresAt    time.Time // zero for never
	CreatedAt    time.Time
	CreatedBy    string
	UpdatedAt    time.Time
	Generation   int64     // grows with every change, and with those of its secrets
	LastUsedAt   time.Time // zero for never; see SetRobotUsed
	LastUsedFrom string
}

const robotColumns = `id, name, project_id, description, disabled, expires_at, created_at, created_by, updated_at, generation, last_used_at, last_used_from`

func scanRobot(rows *sql.Rows, r *Robot) error {
	return rows.Scan(&r.ID, &r.Name, &r.Project, &r.Description, &r.Disabled, micros{&r.ExpiresAt}, micros{&r.CreatedAt}, &r.CreatedBy,
		micros{&r.UpdatedAt}, &r.Generation, micros{&r.LastUsedAt}, &r.LastUsedFrom)
}

// Robot finds a robot by number, or ErrNotFound.
func (r *Reads) Robot(ctx context.Context, id int64) (Robot, error) {
	return one(ctx, r.s, scanRobot, `SELECT `+robotColumns+` FROM robot WHERE id = $1`, id)
}

// RobotByName finds a robot by name, or ErrNotFound.
func (r *Reads) RobotByName(ctx context.Context, name string) (Robot, error) {
	return one(ctx, r.s, scanRobot, `SELECT `+robotColumns+` FROM robot WHERE name = $1`, name)
}

// RobotFilter chooses robots. The zero filter chooses all.
type RobotFilter struct {
	Contains string // in the name, in any case
	Project  *int64 // 0 is those of the registry
	Expires  time.Time
	Order    Order // by name, created or used
}

// Robots are robots that the filter chooses, behind the key after, in the filter's order. With Expires, those that
// expire before that time.
func (r *Reads) Robots(ctx context.Context, f RobotFilter, after string, limit int) ([]Robot, error) {
	var w where
	order, err := w.behind(f.Order, after, ordered{`name`, `id`, `last_used_at`})
	if err != nil {
		return nil, err
	}
	w.contains(`LOWER(name)`, f.Contains)
	if f.Project != nil {
		w.and(`project_id = ?`, *f.Project)
	}
	if !f.Expires.IsZero() {
		w.and(`expires_at > 0 AND expires_at < ?`, toMicros(f.Expires))
	}
	query, args := w.page(`SELECT `+robotColumns+` FROM robot`, order, limit)
	return many(ctx, r.s, scanRobot, query, args...)
}

// CreateRobot makes a robot and returns it. A name that an account or robot has is a Conflict.
func (tx *Tx) CreateRobot(r Robot) (Robot, error) {
	if err := tx.takeName(r.Name, tx.accountTaken(r.Name), tx.robotTaken(r.Name)); err != nil {
		return Robot{}, err
	}
	return one(tx.ctx, tx.s, scanRobot, `INSERT INTO robot (name, project_id, description, disabled, expires_at, created_at, created_by, updated_at, generation)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $6, $6) RETURNING `+robotColumns,
		r.Name, r.Project, r.Description, r.Disabled, toMicros(r.ExpiresAt), toMicros(tx.now), r.CreatedBy)
}

// UpdateRobot changes description, Disabled and ExpiresAt of the robot with r's ID; generation and errors are as of
// UpdateAccount.
func (tx *Tx) UpdateRobot(r Robot, generation int64) (Robot, error) {
	got, err := one(tx.ctx, tx.s, scanRobot, `UPDATE robot SET description = $3, disabled = $4, expires_at = $5, updated_at = $6, generation = generation + 1
		WHERE id = $1 AND (CAST($2 AS BIGINT) < 0 OR generation = $2) RETURNING `+robotColumns, r.ID, generation, r.Description, r.Disabled, toMicros(r.ExpiresAt), toMicros(tx.now))
	if err == nil {
		tx.changed(RobotChanged, got.ID, got.Name)
	}
	return got, tx.whyNot(err, func() error { _, err := tx.Robot(tx.ctx, r.ID); return err })
}

// SetRobotUsed records when a robot was used last, and from where. It is not a change of the robot.
func (tx *Tx) SetRobotUsed(id int64, at time.Time, from string) error {
	_, err := tx.exec(`UPDATE robot SET last_used_at = $2, last_used_from = $3 WHERE id = $1 AND last_used_at < $2`, id, toMicros(at), from)
	return err
}

// DeleteRobot removes a robot with its secrets and grants, or says ErrNotFound.
func (tx *Tx) DeleteRobot(id int64) error {
	name, err := one(tx.ctx, tx.s, column[string], `DELETE FROM robot WHERE id = $1 RETURNING name`, id)
	if err != nil {
		return err
	}
	tx.changed(RobotChanged, id, name)
	if _, err := tx.exec(`DELETE FROM robot_secret WHERE robot_id = $1`, id); err != nil {
		return err
	}
	return tx.deleteGrantsOf(Subject{RobotSubject, id})
}

// RobotSecret is one of the secrets of a robot.
type RobotSecret struct {
	ID        int64
	RobotID   int64
	Hash      string // of the secret, as its owner writes it; unique
	Prefix    string // the secret's first characters, for people
	CreatedAt time.Time
	ExpiresAt time.Time // zero for never
}

const robotSecretColumns = `id, robot_id, hash, prefix, created_at, expires_at`

func scanRobotSecret(rows *sql.Rows, s *RobotSecret) error {
	return rows.Scan(&s.ID, &s.RobotID, &s.Hash, &s.Prefix, micros{&s.CreatedAt}, micros{&s.ExpiresAt})
}

// RobotSecretByHash finds a secret, or ErrNotFound.
func (r *Reads) RobotSecretByHash(ctx context.Context, hash string) (RobotSecret, error) {
	return one(ctx, r.s, scanRobotSecret, `SELECT `+robotSecretColumns+` FROM robot_secret WHERE hash = $1`, hash)
}

// RobotSecrets are the secrets of a robot, oldest first.
func (r *Reads) RobotSecrets(ctx context.Context, robotID int64) ([]RobotSecret, error) {
	return many(ctx, r.s, scanRobotSecret, `SELECT `+robotSecretColumns+` FROM robot_secret WHERE robot_id = $1 ORDER BY id`, robotID)
}

// CreateRobotSecret adds a secret and returns it; ErrNotFound when there is no such robot.
func (tx *Tx) CreateRobotSecret(s RobotSecret) (RobotSecret, error) {
	if err := tx.secretsChanged(s.RobotID); err != nil {
		return RobotSecret{}, err
	}
	return one(tx.ctx, tx.s, scanRobotSecret, `INSERT INTO robot_secret (robot_id, hash, prefix, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)
		RETURNING `+robotSecretColumns, s.RobotID, s.Hash, s.Prefix, toMicros(tx.now), toMicros(s.ExpiresAt))
}

// secretsChanged counts the robot's generation up.
func (tx *Tx) secretsChanged(robotID int64) error {
	name, err := one(tx.ctx, tx.s, column[string], `UPDATE robot SET generation = generation + 1, updated_at = $2 WHERE id = $1 RETURNING name`, robotID, toMicros(tx.now))
	if err == nil {
		tx.changed(RobotChanged, robotID, name)
	}
	return err
}

// ExpireRobotSecrets makes all secrets of a robot but one end at a time at the latest; except 0 is all of them.
func (tx *Tx) ExpireRobotSecrets(robotID, except int64, at time.Time) error {
	if err := tx.secretsChanged(robotID); err != nil {
		return err
	}
	_, err := tx.exec(`UPDATE robot_secret SET expires_at = $3 WHERE robot_id = $1 AND id <> $2 AND (expires_at = 0 OR expires_at > $3)`, robotID, except, toMicros(at))
	return err
}

// DeleteRobotSecret removes a secret of a robot, or says ErrNotFound.
func (tx *Tx) DeleteRobotSecret(robotID, id int64) error {
	n, err := tx.exec(`DELETE FROM robot_secret WHERE id = $1 AND robot_id = $2`, id, robotID)
	if err != nil {
		return err
	}
	if n == 0 {
		return ErrNotFound
	}
	return tx.secretsChanged(robotID)
}

// TrimRobotSecrets removes up to limit secrets that ended before a time, and returns how many.
func (tx *Tx) TrimRobotSecrets(before time.Time, limit int) (int, error) {
	n, err := tx.exec(`DELETE FROM robot_secret WHERE id IN (SELECT id FROM robot_secret WHERE expires_at > 0 AND expires_at < $1 LIMIT $2)`, toMicros(before), limit)
	return int(n), err
}
