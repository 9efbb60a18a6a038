package metadb

import (
	"context"
	"database/sql"
	"slices"
	"strconv"
	"strings"
	"time"
)

// UntaggedCount is what the policy for untagged manifests would take.
type UntaggedCount struct {
	Manifests    int64 // themselves, and what follows them
	Blobs, Bytes int64 // that nothing else needs, manifests included
}

// CountUntagged counts what TrashUntagged would put into the trash of all repositories, with what would follow, and what
// nothing needs any more when that is purged. Its memory is of the size of what it finds.
func (r *Reads) CountUntagged(ctx context.Context, due time.Time, age time.Duration) (UntaggedCount, error) {
	u := &untagged{r: r, ctx: ctx, ids: map[int64]bool{}}
	before := toMicros(due.Add(-age))
	roots, err := many(ctx, r.s, column[int64], `SELECT m.id FROM manifest m JOIN blob b ON b.digest = m.digest
		WHERE b.state <> 1 AND b.lease_until <= $1 AND `+loose+` AND `+old("$2"), toMicros(due), before)
	for err == nil && len(roots) > 0 {
		for _, id := range roots {
			u.ids[id] = true
		}
		roots, err = u.followers(roots)
	}
	if err != nil {
		return UntaggedCount{}, err
	}
	c := UntaggedCount{Manifests: int64(len(u.ids))}
	c.Blobs, c.Bytes, err = u.content()
	return c, err
}

// PurgeCount is what leaves the trash because its hold is over.
type PurgeCount struct {
	Manifests    int64
	Blobs, Bytes int64 // that nothing else needs, those manifests included
}

// CountPurge counts what PurgeDue would delete for good at that time, after Collect has looked at the leases that are over at
// due, and what nothing needs any more then. Its memory is of the size of what it finds.
func (r *Reads) CountPurge(ctx context.Context, now, due time.Time) (PurgeCount, error) {
	// One waits while manifests depend on it that are not in the trash yet and do not go there now, see PurgeDue.
	ids, err := many(ctx, r.s, column[int64], `SELECT t.id FROM trash t WHERE t.hold_until <= $1 AND NOT EXISTS (
			SELECT 1 FROM manifest m JOIN blob b ON b.digest = m.digest WHERE m.repo_id = t.repo_id AND m.subject = t.digest AND m.subject <> ''
				AND NOT (b.state <> 1 AND b.lease_until > 0 AND b.lease_until <= $2) AND `+loose+` AND `+orphaned+`)
		AND NOT EXISTS (SELECT 1 FROM edge c JOIN manifest m ON m.repo_id = c.repo_id AND m.digest = c.child JOIN blob b ON b.digest = m.digest
			WHERE c.manifest_id = t.id AND c.kind = 3
				AND NOT (b.state <> 1 AND b.lease_until > 0 AND b.lease_until <= $2) AND `+loose+` AND `+orphaned+`)`, toMicros(now), toMicros(due))
	if err != nil || len(ids) == 0 {
		return PurgeCount{}, err
	}
	u := &untagged{r: r, ctx: ctx, ids: make(map[int64]bool, len(ids))}
	for _, id := range ids {
		u.ids[id] = true
	}
	c := PurgeCount{Manifests: int64(len(ids))}
	c.Blobs, c.Bytes, err = u.content()
	return c, err
}

// untagged is a CountUntagged or a CountPurge in progress.
type untagged struct {
	r   *Reads
	ctx context.Context //nolint:containedctx // of the one question
	ids map[int64]bool  // manifests that would be in the trash, or out of it
}

// untaggedPart is how many manifests or digests are asked about at once.
const untaggedPart = 1000

// followers are the manifests that were never tagged and for which those are all that points at them, now that the last
// wave is gone, too.
func (u *untagged) followers(wave []int64) (next []int64, err error) {
	const never = ` AND NOT EXISTS (SELECT 1 FROM tag t WHERE t.repo_id = m.repo_id AND t.digest = m.digest)
		AND NOT EXISTS (SELECT 1 FROM tag_history h WHERE h.repo_id = m.repo_id AND h.digest = m.digest)`
	for part := range slices.Chunk(wave, untaggedPart) {
		list := u.r.d.numbersOf(part)
		found, err := many(u.ctx, u.r.s, column[int64], `SELECT m.id FROM edge e JOIN manifest m ON m.repo_id = e.repo_id AND m.digest = e.child
				WHERE e.kind = 3 AND e.manifest_id `+u.r.d.inNumbers("$1")+never+`
			UNION SELECT m.id FROM manifest p JOIN manifest m ON m.repo_id = p.repo_id AND m.subject = p.digest AND m.subject <> ''
				WHERE p.id `+u.r.d.inNumbers("$2")+never, list, list)
		if err != nil {
			return nil, err
		}
		for _, id := range found {
			if u.ids[id] || slices.Contains(next, id) {
				continue
			}
			holders, err := many(u.ctx, u.r.s, column[int64], `SELECT p.id FROM manifest m JOIN edge e ON e.child = m.digest AND e.repo_id = m.repo_id AND e.kind = 3
					JOIN manifest p ON p.id = e.manifest_id WHERE m.id = $1
				UNION SELECT s.id FROM manifest m JOIN manifest s ON s.repo_id = m.repo_id AND s.digest = m.subject WHERE m.id = $2 AND m.subject <> ''`, id, id)
			if err != nil {
				return nil, err
			}
			if !slices.ContainsFunc(holders, func(h int64) bool { return !u.ids[h] }) {
				next = append(next, id)
			}
		}
	}
	return next, nil
}

// content counts the blobs that only those manifests need.
func (u *untagged) content() (blobs, bytes int64, err error) {
	seen := map[string]bool{} // digests whose answer is known
	ids := make([]int64, 0, len(u.ids))
	for id := range u.ids {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for part := range slices.Chunk(ids, untaggedPart) {
		list := u.r.d.numbersOf(part)
		ds, err := many(u.ctx, u.r.s, column[string], `SELECT child FROM edge WHERE kind <> 4 AND manifest_id `+u.r.d.inNumbers("$1")+`
			UNION SELECT digest FROM manifest WHERE id `+u.r.d.inNumbers("$2")+`
			UNION SELECT digest FROM trash WHERE id `+u.r.d.inNumbers("$3"), list, list, list)
		if err != nil {
			return 0, 0, err
		}
		ds = slices.DeleteFunc(ds, func(d string) bool { was := seen[d]; seen[d] = true; return was })
		for some := range slices.Chunk(ds, untaggedPart) {
			n, sum, err := u.free(some)
			if err != nil {
				return 0, 0, err
			}
			blobs, bytes = blobs+n, bytes+sum
		}
	}
	return blobs, bytes, nil
}

// free counts those of the digests that are blobs which nothing else needs.
func (u *untagged) free(ds []string) (blobs, bytes int64, err error) {
	d, list := u.r.d, u.r.d.listOf(ds)
	needed := map[string]bool{}
	err = u.r.s.query(u.ctx, func(rows *sql.Rows) error {
		var digest string
		var by int64
		err := rows.Scan(&digest, &by)
		needed[digest] = needed[digest] || !u.ids[by]
		return err
	}, `SELECT child, manifest_id FROM edge WHERE kind <> 4 AND child `+d.inList("$1")+`
		UNION ALL SELECT digest, id FROM manifest WHERE digest `+d.inList("$2")+`
		UNION ALL SELECT digest, id FROM trash WHERE digest `+d.inList("$3")+`
		UNION ALL SELECT committing, 0 FROM upload WHERE committing <> '' AND committing `+d.inList("$4"), list, list, list, list)
	if err != nil {
		return 0, 0, err
	}
	err = u.r.s.query(u.ctx, func(rows *sql.Rows) error {
		var digest string
		var size int64
		err := rows.Scan(&digest, &size)
		if !needed[digest] {
			blobs, bytes = blobs+1, bytes+size
		}
		return err
	}, `SELECT digest, size FROM blob WHERE digest `+d.inList("$1"), list)
	return blobs, bytes, err
}

func jsonNumbers(ns []int64) string { return "[" + numbers(ns) + "]" }

func arrayNumbers(ns []int64) string { return "{" + numbers(ns) + "}" }

func numbers(ns []int64) string {
	texts := make([]string, len(ns))
	for i, n := range ns {
		texts[i] = strconv.FormatInt(n, 10)
	}
	return strings.Join(texts, ",")
}
