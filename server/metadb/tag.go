package metadb

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/berth-registry/berth/oci"
)

// Tag is a name for a manifest in a repository.
type Tag struct {
	RepoID    int64
	Name      string
	Digest    oci.Digest
	UpdatedAt time.Time // when it came to point there
}

func scanTag(rows *sql.Rows, t *Tag) error {
	return rows.Scan(&t.RepoID, &t.Name, digest{&t.Digest}, micros{&t.UpdatedAt})
}

// Tag finds a tag, or ErrNotFound.
func (r *Reads) Tag(ctx context.Context, repoID int64, name string) (Tag, error) {
	return one(ctx, r.s, scanTag, `SELECT repo_id, name, digest, updated_at FROM tag WHERE repo_id = $1 AND name = $2`, repoID, name)
}

// Tags are names of tags behind after, in the order of their bytes. The cost depends on the page only.
func (r *Reads) Tags(ctx context.Context, repoID int64, after string, limit int) ([]string, error) {
	return many(ctx, r.s, column[string], `SELECT name FROM tag WHERE repo_id = $1 AND name > $2 ORDER BY name LIMIT $3`, repoID, after, limit)
}

// NewestTags are the n tags that moved last, newest first.
func (r *Reads) NewestTags(ctx context.Context, repoID int64, n int) ([]Tag, error) {
	return many(ctx, r.s, scanTag, `SELECT repo_id, name, digest, updated_at FROM tag WHERE repo_id = $1 ORDER BY updated_at DESC, name DESC LIMIT $2`, repoID, n)
}

// ListedTag is a tag with its entry in the journal.
type ListedTag struct {
	TagEntry
	UpdatedAt time.Time // as of Tag
}

func scanListedTag(rows *sql.Rows, t *ListedTag) error {
	return rows.Scan(&t.Name, micros{&t.Since}, digest{&t.Digest}, &t.By, &t.Source, micros{&t.UpdatedAt})
}

// ListTags are up to limit tags of a repository behind the key after, in an order by name or moved. The cost depends on the page only.
func (r *Reads) ListTags(ctx context.Context, repoID int64, o Order, after string, limit int) ([]ListedTag, error) {
	var w where
	w.and(`t.repo_id = ?`, repoID)
	order, err := w.behind(o, after, ordered{name: `t.name`, at: `t.updated_at`})
	if err != nil {
		return nil, err
	}
	query, args := w.page(`SELECT t.name, `+r.d.rowSince()+`, t.digest, t.moved_by, t.source, t.updated_at FROM tag t`, order, limit)
	return many(ctx, r.s, scanListedTag, query, args...)
}

// TagsOf are all tags that point at the manifest, in the order of their names.
func (r *Reads) TagsOf(ctx context.Context, repoID int64, d oci.Digest) ([]string, error) {
	return many(ctx, r.s, column[string], `SELECT name FROM tag WHERE repo_id = $1 AND digest = $2 ORDER BY name`, repoID, d.String())
}

// PutTag points the tag at a manifest and returns what it pointed at before, zero for nothing. It is the one place
// where tags move, and writes their journal. Pointing it where it points already changes nothing. A manifest that is not
// there is a Conflict: another request deleted it.
func (tx *Tx) PutTag(repoID int64, name string, d oci.Digest, from Origin) (before oci.Digest, err error) {
	for range 16 { // each time another transaction has committed meanwhile
		before, since, err := tx.journal(repoID, name, d)
		if err == nil {
			return before, tx.moveTag(repoID, name, d, since, from)
		}
		if !errors.Is(err, ErrNotFound) {
			return before, err
		}
		now := toMicros(tx.now)
		n, err := tx.exec(`INSERT INTO tag (repo_id, name, digest, updated_at, since, moved_by, source) VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (repo_id, name) DO NOTHING`, repoID, name, d.String(), now, now, from.By, from.Source)
		if err != nil || n == 1 {
			return oci.Digest{}, err
		}
		before, err = tx.lockTag(repoID, name)
		if err == nil && before == d {
			return before, nil
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return before, err
		}
		// Another transaction made, moved or deleted it between two of the statements: look again.
	}
	return oci.Digest{}, errors.New("metadb: tag appears and disappears while it is put")
}

// moveTag moves a tag whose row is locked. updated_at goes with since, by which the journal knows that this was no berthd
// of before it.
func (tx *Tx) moveTag(repoID int64, name string, d oci.Digest, since int64, from Origin) error {
	tx.changed(TagChanged, repoID, name)
	_, err := tx.exec(`UPDATE tag SET digest = $3, updated_at = $4, since = $5, moved_by = $6, source = $7 WHERE repo_id = $1 AND name = $2`,
		repoID, name, d.String(), since, since, from.By, from.Source)
	return err
}

// DeleteTag removes a tag and returns what it pointed at; existed says whether there was one.
func (tx *Tx) DeleteTag(repoID int64, name string, from Origin) (before oci.Digest, existed bool, err error) {
	before, err = tx.lockTag(repoID, name)
	if errors.Is(err, ErrNotFound) {
		return oci.Digest{}, false, nil
	}
	if err == nil {
		err = tx.endTags(repoID, []string{name}, from)
	}
	return before, err == nil, err
}

// DeleteTagsOf removes all tags that point at the manifest and returns their names in order. Until the transaction ends
// nobody can point another at it. ErrNotFound when there is no such manifest: one that is being pushed at this moment has
// tags that this cannot see, and is not to be deleted then either.
func (tx *Tx) DeleteTagsOf(repoID int64, d oci.Digest, from Origin) ([]string, error) {
	if _, err := one(tx.ctx, tx.s, column[int64], `SELECT id FROM manifest WHERE repo_id = $1 AND digest = $2`+tx.d.forUpdate, repoID, d.String()); err != nil {
		return nil, err
	}
	names, err := many(tx.ctx, tx.s, column[string], `SELECT name FROM tag WHERE repo_id = $1 AND digest = $2 ORDER BY name`+tx.d.forUpdate, repoID, d.String())
	if err != nil {
		return nil, err
	}
	return names, tx.endTags(repoID, names, from)
}

func (tx *Tx) lockTag(repoID int64, name string) (oci.Digest, error) {
	return one(tx.ctx, tx.s, func(rows *sql.Rows, d *oci.Digest) error { return rows.Scan(digest{d}) },
		`SELECT digest FROM tag WHERE repo_id = $1 AND name = $2`+tx.d.forUpdate, repoID, name)
}
