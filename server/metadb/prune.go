package metadb

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/identity"
)

// Manifests that collection puts into the trash: what followed its parent, and what the policy for untagged ones is for.
// Each is locked first and looked at again then. With its lock nobody can point a tag at it or name it in an index, and
// with the locks of the parents and the subject that are in the trash none of them comes back at the same moment.

// Causes with which collection puts manifests into the trash.
const (
	CauseUntagged      = "untagged"
	CauseParentDeleted = "parent deleted"
)

// loose is the condition that nothing living points at the manifest m: no tag, no index, no subject.
const loose = `NOT EXISTS (SELECT 1 FROM tag t WHERE t.repo_id = m.repo_id AND t.digest = m.digest)
	AND NOT EXISTS (SELECT 1 FROM edge e JOIN manifest p ON p.id = e.manifest_id WHERE e.child = m.digest AND e.repo_id = m.repo_id AND e.kind = 3)
	AND (m.subject = '' OR NOT EXISTS (SELECT 1 FROM manifest s WHERE s.repo_id = m.repo_id AND s.digest = m.subject))`

// orphaned is the condition that a loose manifest was there for one in the trash alone.
const orphaned = `NOT EXISTS (SELECT 1 FROM tag_history h WHERE h.repo_id = m.repo_id AND h.digest = m.digest)
	AND (EXISTS (SELECT 1 FROM trash s WHERE s.repo_id = m.repo_id AND s.digest = m.subject AND m.subject <> '')
		OR EXISTS (SELECT 1 FROM edge e JOIN trash p ON p.id = e.manifest_id WHERE e.child = m.digest AND e.repo_id = m.repo_id AND e.kind = 3))`

// old is the condition that a loose manifest was pushed before a time, and that no tag has pointed at it since.
func old(time string) string {
	return `m.pushed_at < ` + time + ` AND NOT EXISTS (SELECT 1 FROM tag_history h WHERE h.repo_id = m.repo_id AND h.digest = m.digest
		AND COALESCE((SELECT MIN(n.since) FROM tag_history n WHERE n.repo_id = h.repo_id AND n.name = h.name AND n.since > h.since),
			(SELECT CASE WHEN t.updated_at > t.since THEN t.updated_at ELSE t.since END FROM tag t WHERE t.repo_id = h.repo_id AND t.name = h.name), ` + time + `) >= ` + time + `)`
}

// ManifestKept reports whether a tag, an index or a living subject keeps a manifest of the repository from the policy for
// untagged ones.
func (r *Reads) ManifestKept(ctx context.Context, repoID int64, d oci.Digest) (bool, error) {
	n, err := one(ctx, r.s, column[int64], `SELECT COUNT(*) FROM manifest m WHERE m.repo_id = $1 AND m.digest = $2 AND NOT (`+loose+`)`, repoID, d.String())
	return n > 0, err
}

// prunable is a manifest that may go.
type prunable struct {
	id         int64
	repoID     int64
	digest     oci.Digest
	subject    string
	repository string
}

func scanPrunable(rows *sql.Rows, p *prunable) error {
	return rows.Scan(&p.id, &p.repoID, digest{&p.digest}, &p.subject, &p.repository)
}

const prunableColumns = `SELECT m.id, m.repo_id, m.digest, m.subject, r.name FROM manifest m JOIN repository r ON r.id = m.repo_id `

// trashDue puts those of the digests into the trash that are manifests whose parents and subject are there.
func (tx *Tx) trashDue(o Collecting, ds []string) ([]Unlinked, error) {
	if len(ds) == 0 {
		return nil, nil
	}
	found, err := many(tx.ctx, tx.s, scanPrunable, prunableColumns+`WHERE m.digest `+tx.d.inList("$1")+` AND `+loose+` AND `+orphaned, tx.d.listOf(ds))
	if err != nil {
		return nil, err
	}
	var trashed []Unlinked
	for _, m := range found {
		done, err := tx.prune(m, o.Due, orphaned, 0, Discard{Cause: CauseParentDeleted, Hold: o.TrashHold})
		if err != nil {
			return nil, err
		}
		if done {
			trashed = append(trashed, Unlinked{m.repoID, m.digest})
		}
	}
	return trashed, nil
}

// TrashUntagged puts up to limit manifests behind a number into the trash that nothing living points at, that were pushed
// and last tagged longer ago than age, and whose blobs nobody was promised beyond due. next is behind the last that was looked at, 0 at the end.
func (tx *Tx) TrashUntagged(after int64, due time.Time, age, hold time.Duration, limit int) (trashed []Unlinked, next int64, err error) {
	ids, err := many(tx.ctx, tx.s, column[int64], `SELECT id FROM manifest WHERE id > $1 ORDER BY id LIMIT $2`, after, limit)
	if err != nil || len(ids) == 0 {
		return nil, 0, err
	}
	if len(ids) == limit {
		next = ids[len(ids)-1]
	}
	before := toMicros(tx.clock().Add(-age))
	found, err := many(tx.ctx, tx.s, scanPrunable, prunableColumns+`WHERE m.id > $1 AND m.id <= $2 AND `+loose+` AND `+old("$3"), after, ids[len(ids)-1], before)
	if err != nil {
		return nil, 0, err
	}
	for _, m := range found {
		done, err := tx.prune(m, due, old("$2"), before, Discard{Cause: CauseUntagged, Hold: hold})
		if err != nil {
			return nil, 0, err
		}
		if done {
			trashed = append(trashed, Unlinked{m.repoID, m.digest})
		}
	}
	return trashed, next, nil
}

// prune puts a manifest into the trash if it is still loose and the condition holds, which may use the time $2; done is
// false when it is not, when it is promised, and when somebody is at work on it.
func (tx *Tx) prune(m prunable, due time.Time, condition string, before int64, why Discard) (done bool, err error) {
	if free, err := tx.lockPrunable(m, due); err != nil || !free {
		return false, err
	}
	args := []any{m.id}
	if strings.Contains(condition, "$2") {
		args = append(args, before)
	}
	again, err := many(tx.ctx, tx.s, scanPrunable, prunableColumns+`WHERE m.id = $1 AND `+loose+` AND `+condition, args...)
	if err != nil || len(again) == 0 {
		return false, err
	}
	why.By, why.Source = "collection", ""
	existed, err := tx.TrashManifest(m.repoID, m.digest, why)
	if err != nil || !existed {
		return false, err
	}
	ctx := identity.With(tx.ctx, identity.Principal{Kind: identity.System})
	return true, tx.Emit(event.ManifestDeleted(ctx, m.repository, m.digest).WithDetail(ctx, event.Detail{}))
}

// lockPrunable locks the manifest, its blob, and what is in the trash of its parents and its subject, without waiting for
// anybody; free is false when somebody else has one of them locked, and when its blob is promised beyond due.
func (tx *Tx) lockPrunable(m prunable, due time.Time) (free bool, err error) {
	count := func(query string, args ...any) (int, error) {
		ids, err := many(tx.ctx, tx.s, column[string], query, args...)
		return len(ids), err
	}
	n, err := count(`SELECT digest FROM blob WHERE digest = $1 AND state <> 1 AND lease_until <= $2`+tx.d.skipLocked, m.digest.String(), toMicros(due))
	if err != nil || n == 0 {
		return false, err
	}
	n, err = count(`SELECT digest FROM manifest WHERE id = $1`+tx.d.skipLocked, m.id)
	if err != nil || n == 0 || tx.d.skipLocked == "" {
		return n > 0, err
	}
	const anchors = `SELECT digest FROM trash WHERE repo_id = $1 AND (digest = $2 OR id IN
		(SELECT e.manifest_id FROM edge e WHERE e.child = $3 AND e.repo_id = $1 AND e.kind = 3))`
	locked, err := count(anchors+tx.d.skipLocked, m.repoID, m.subject, m.digest.String())
	if err != nil {
		return false, err
	}
	all, err := count(anchors, m.repoID, m.subject, m.digest.String())
	return all == locked, err
}

// PurgeDue deletes up to limit manifests of the trash for good whose hold is over. One on which manifests of the repository
// depend that are not in the trash yet waits until they are: they are looked at first.
func (tx *Tx) PurgeDue(after PurgeCursor, limit int) (purged int, next PurgeCursor, err error) {
	due, err := many(tx.ctx, tx.s, scanPurge, `SELECT hold_until, id, repo_id, digest FROM trash WHERE hold_until <= $1 AND (hold_until, id) > ($2, $3)
		ORDER BY hold_until, id LIMIT $4`+tx.d.skipLocked, toMicros(tx.clock()), after.At, after.ID, limit)
	if err != nil {
		return 0, next, err
	}
	for _, t := range due {
		waits, err := many(tx.ctx, tx.s, scanPrunable, prunableColumns+`WHERE m.id IN (
			SELECT s.id FROM manifest s WHERE s.repo_id = $1 AND s.subject = $2 AND s.subject <> ''
			UNION SELECT c.id FROM edge e JOIN manifest c ON c.repo_id = e.repo_id AND c.digest = e.child WHERE e.manifest_id = $3 AND e.kind = 3) AND `+loose+` AND `+orphaned+` LIMIT 1`, t.repoID, t.digest.String(), t.ID)
		if err != nil {
			return purged, next, err
		}
		if len(waits) > 0 {
			if err := tx.ReviewEdges(t.ID); err != nil {
				return purged, next, err
			}
			continue
		}
		done, err := tx.PurgeTrash(t.ID)
		if err != nil {
			return purged, next, err
		}
		if done {
			purged++
		}
	}
	if len(due) == limit {
		next = due[len(due)-1].PurgeCursor
	}
	return purged, next, nil
}

// PurgeCursor is a place in the trash; the zero value is its beginning, and its end.
type PurgeCursor struct{ At, ID int64 }

type purge struct {
	PurgeCursor
	repoDigest
}

func scanPurge(rows *sql.Rows, p *purge) error {
	return rows.Scan(&p.At, &p.ID, &p.repoID, digest{&p.digest})
}
