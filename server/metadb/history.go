package metadb

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/oci"
)

// The journal of tags: from when on a tag pointed at what, who moved it and from where. The last entry of a tag that exists
// is the tag's own row, so that the first push of a tag writes nothing more than before; the entry comes to tag_history,
// in the same transaction, when the tag moves or is deleted. A deletion is an entry without a digest.
//
// Entries of a tag follow each other strictly, also when the clock steps back: each is a microsecond later than the one
// before at least. So a tag has one answer at any time, and the same one for ever, as long as it is not trimmed.
//
// The time of a row is worked out when it is read (rowSince), because there are two that it cannot know. A berthd of before
// the journal writes updated_at alone: when that is later than since, such a berthd has moved the tag, and what it was
// before is not known. And on PostgreSQL a tag may come to be while its deletion by another replica commits, which the one
// who makes it has not seen.

// Origin says who moves a tag, and from where: texts for people.
type Origin struct {
	By     string
	Source string
}

// TagEntry is an entry of the journal.
type TagEntry struct {
	Name   string
	Since  time.Time
	Digest oci.Digest // zero: from then on the tag did not exist
	By     string
	Source string
}

func scanTagEntry(rows *sql.Rows, e *TagEntry) error {
	return rows.Scan(&e.Name, micros{&e.Since}, digest{&e.Digest}, &e.By, &e.Source)
}

// rowSince is when the entry of the row t of tag began.
func (d *dialect) rowSince() string {
	return d.greatest + `(t.since, t.updated_at, COALESCE((SELECT MAX(h.since) + 1 FROM tag_history h WHERE h.repo_id = t.repo_id AND h.name = t.name), 0))`
}

// TagHistory are up to limit entries of the tag from before a time, newest first; the zero time is from the newest on. A
// tag that was never there has none. The cost depends on the page only.
func (r *Reads) TagHistory(ctx context.Context, repoID int64, name string, before time.Time, limit int) ([]TagEntry, error) {
	return many(ctx, r.s, scanTagEntry, `SELECT name, since, digest, moved_by, source FROM (
			SELECT t.name, `+r.d.rowSince()+` AS since, t.digest, t.moved_by, t.source FROM tag t WHERE t.repo_id = $1 AND t.name = $2
			UNION ALL SELECT * FROM (SELECT name, since, digest, moved_by, source FROM tag_history
				WHERE repo_id = $1 AND name = $2 AND since < $3 ORDER BY since DESC LIMIT $4) past
		) entry WHERE since < $3 ORDER BY since DESC LIMIT $4`, repoID, name, toCursor(before), limit)
}

// toCursor is the column value of a time behind which a page begins, coming from the newest.
func toCursor(before time.Time) int64 {
	if before.IsZero() {
		return 1<<63 - 1
	}
	return toMicros(before)
}

// TagAt is the entry that was true of the tag at the time, ErrNotFound when there is none: the tag was not there yet, or
// its history does not reach back so far. An entry without a digest says that it had been deleted.
func (r *Reads) TagAt(ctx context.Context, repoID int64, name string, at time.Time) (TagEntry, error) {
	entries, err := r.TagHistory(ctx, repoID, name, justAfter(at), 1)
	if err == nil && len(entries) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return TagEntry{}, err
	}
	return entries[0], nil
}

// justAfter is the first time whose entries are not true at t, by a clock of microseconds.
func justAfter(t time.Time) time.Time { return t.Truncate(time.Microsecond).Add(time.Microsecond) }

// TagsAt are up to limit tags that the repository had at the time, in the order of their names, behind after. The cost
// depends on the page, and on how often its tags have moved.
func (r *Reads) TagsAt(ctx context.Context, repoID int64, at time.Time, after string, limit int) ([]TagEntry, error) {
	var all []TagEntry
	step := min(max(limit, 64), 1024)
	for len(all) < limit {
		// Every name has its row here, those that were not there at the time without a digest: the next step begins behind.
		rows, err := many(ctx, r.s, scanTagEntry, `SELECT n.name, COALESCE(t.since, h.since, 0), COALESCE(t.digest, h.digest, ''),
				COALESCE(t.moved_by, h.moved_by, ''), COALESCE(t.source, h.source, '')
			FROM (SELECT name FROM (SELECT name FROM tag WHERE repo_id = $1 AND name > $2 ORDER BY name LIMIT $4) living
				UNION SELECT name FROM (SELECT DISTINCT name FROM tag_history WHERE repo_id = $1 AND name > $2 ORDER BY name LIMIT $4) past
				ORDER BY name LIMIT $4) n
			LEFT JOIN (SELECT t.repo_id, t.name, t.digest, t.moved_by, t.source, `+r.d.rowSince()+` AS since FROM tag t) t
				ON t.repo_id = $1 AND t.name = n.name AND t.since <= $3
			LEFT JOIN tag_history h ON t.name IS NULL AND h.repo_id = $1 AND h.name = n.name AND h.since =
				(SELECT MAX(x.since) FROM tag_history x WHERE x.repo_id = $1 AND x.name = n.name AND x.since <= $3)
			ORDER BY n.name`, repoID, after, toMicros(at), step)
		if err != nil {
			return nil, err
		}
		for _, e := range rows {
			after = e.Name
			if !e.Digest.IsZero() && len(all) < limit {
				all = append(all, e)
			}
		}
		if len(rows) < step {
			break
		}
	}
	return all, nil
}

// DeletedTag is a tag that is gone, and can be put back for as long as its manifest is there or in the trash.
type DeletedTag struct {
	Name      string
	Digest    oci.Digest // what it pointed at
	DeletedAt time.Time
	By        string
	Source    string
}

func scanDeletedTag(rows *sql.Rows, t *DeletedTag) error {
	return rows.Scan(&t.Name, micros{&t.DeletedAt}, &t.By, &t.Source, digest{&t.Digest})
}

// DeletedTags are up to limit tags that the repository has had, in the order of their names, behind after. The cost
// depends on how often the tags of the page have moved, and on how many living ones lie between.
func (r *Reads) DeletedTags(ctx context.Context, repoID int64, after string, limit int) ([]DeletedTag, error) {
	return many(ctx, r.s, scanDeletedTag, `SELECT h.name, h.since, h.moved_by, h.source,
			COALESCE((SELECT p.digest FROM tag_history p WHERE p.repo_id = $1 AND p.name = n.name AND p.digest <> '' ORDER BY p.since DESC LIMIT 1), '')
		FROM (SELECT DISTINCT g.name FROM tag_history g WHERE g.repo_id = $1 AND g.name > $2
			AND NOT EXISTS (SELECT 1 FROM tag t WHERE t.repo_id = g.repo_id AND t.name = g.name) ORDER BY g.name LIMIT $3) n
		JOIN tag_history h ON h.repo_id = $1 AND h.name = n.name AND h.since =
			(SELECT MAX(x.since) FROM tag_history x WHERE x.repo_id = $1 AND x.name = n.name)
		ORDER BY h.name`, repoID, after, limit)
}

// journal locks the row of a tag that does not point at d and moves its entry into the history. It returns what the tag
// points at and the first time that its next entry can have; ErrNotFound: there is no such row. On PostgreSQL it may wait
// for who moves the tag at this moment, and then has that one's row, but not its entry: that is no later than the row.
func (tx *Tx) journal(repoID int64, name string, d oci.Digest) (before oci.Digest, next int64, err error) {
	e, err := one(tx.ctx, tx.s, scanEnded, `INSERT INTO tag_history (repo_id, name, since, digest, moved_by, source)
		SELECT t.repo_id, t.name, `+tx.d.rowSince()+`, t.digest, t.moved_by, t.source FROM tag t
		WHERE t.repo_id = $1 AND t.name = $2 AND t.digest <> $3`+tx.d.forUpdate+` RETURNING digest, since`, repoID, name, d.String())
	return e.digest, max(e.since+1, toMicros(tx.now)), err
}

type ended struct {
	digest oci.Digest
	since  int64
}

func scanEnded(rows *sql.Rows, e *ended) error { return rows.Scan(digest{&e.digest}, &e.since) }

// endTags deletes tags whose rows are locked, and says so in their journals.
func (tx *Tx) endTags(repoID int64, names []string, from Origin) error {
	for part := range slices.Chunk(names, maxList) {
		width := paddedLen(len(part))
		var list strings.Builder
		placeholders(&list, 1, width, 1, "")
		args := make([]any, 1, 4+width)
		args[0] = repoID
		for i := range width {
			args = append(args, part[min(i, len(part)-1)])
		}
		of := ` FROM tag t WHERE t.repo_id = $1 AND t.name IN (` + list.String() + `)`
		if _, err := tx.exec(`INSERT INTO tag_history (repo_id, name, since, digest, moved_by, source)
			SELECT t.repo_id, t.name, `+tx.d.rowSince()+`, t.digest, t.moved_by, t.source`+of, args...); err != nil {
			return err
		}
		if _, err := tx.exec(fmt.Sprintf(`INSERT INTO tag_history (repo_id, name, since, digest, moved_by, source)
			SELECT t.repo_id, t.name, %s(CAST($%d AS BIGINT), (SELECT MAX(h.since) + 1
				FROM tag_history h WHERE h.repo_id = t.repo_id AND h.name = t.name)), '', CAST($%d AS TEXT), CAST($%d AS TEXT)`,
			tx.d.greatest, width+2, width+3, width+4)+of, append(args, toMicros(tx.now), from.By, from.Source)...); err != nil {
			return err
		}
		if _, err := tx.exec(`DELETE FROM tag WHERE repo_id = $1 AND name IN (`+list.String()+`)`, args...); err != nil {
			return err
		}
		for _, name := range part {
			tx.changed(TagChanged, repoID, name)
		}
	}
	return nil
}

// HistoryCursor is a place in the journals of all tags, in the order of their keys. The zero value is the beginning.
type HistoryCursor struct {
	RepoID int64
	Name   string
	Since  int64 // microseconds
}

func scanHistoryCursor(rows *sql.Rows, c *HistoryCursor) error {
	return rows.Scan(&c.RepoID, &c.Name, &c.Since)
}

// TrimTagHistory looks at up to limit entries behind the cursor and removes those that were over before the time: another
// entry of the tag had begun by then, or they only say that it was gone. So whatever a tag was at a later time is known as
// before. It returns the cursor for the next call, and how many it looked at, which is less than limit at the end.
func (tx *Tx) TrimTagHistory(before time.Time, after HistoryCursor, limit int) (next HistoryCursor, seen, removed int, err error) {
	page, err := many(tx.ctx, tx.s, scanHistoryCursor, `SELECT repo_id, name, since FROM tag_history
		WHERE (repo_id, name, since) > ($1, $2, $3) ORDER BY repo_id, name, since LIMIT $4`, after.RepoID, after.Name, after.Since, limit)
	if err != nil || len(page) == 0 {
		return after, 0, 0, err
	}
	next = page[len(page)-1]
	n, err := tx.exec(`DELETE FROM tag_history WHERE (repo_id, name, since) > ($1, $2, $3) AND (repo_id, name, since) <= ($4, $5, $6)
		AND since <= $7 AND (digest = ''
			OR EXISTS (SELECT 1 FROM tag_history n WHERE n.repo_id = tag_history.repo_id AND n.name = tag_history.name
				AND n.since > tag_history.since AND n.since <= $7)
			OR EXISTS (SELECT 1 FROM tag t WHERE t.repo_id = tag_history.repo_id AND t.name = tag_history.name
				AND t.since <= $7 AND t.updated_at <= $7))`,
		after.RepoID, after.Name, after.Since, next.RepoID, next.Name, next.Since, toMicros(before))
	return next, len(page), int(n), err
}
