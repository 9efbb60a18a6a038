package metadb

import (
	"database/sql"
	"strings"
	"time"

	"github.com/berth-registry/berth/oci"
)

// Collecting says what a batch of collection looks at.
type Collecting struct {
	// Due is until when the lease of a blob has to be over; later than now is for who knows that nobody relies on leases.
	Due time.Time
	// After is where the batch before ended.
	After DueCursor
	Limit int
	// Hold is how long the claims hold from now.
	Hold time.Duration
	// Yield is how long a claim that was not ended in time is left to pushes that wait for it, before it is taken over: who claims
	// without a pause would always be there first, and a push would wait for as long as the store does not delete.
	Yield time.Duration
	// TrashHold is how long manifests that follow their parents stay in the trash.
	TrashHold time.Duration
	// Read, when not nil, hears where the next batch begins as soon as this one has locked what it is about and waits for no row
	// of another, before it is decided about; a transaction that runs again calls it again.
	Read func(next DueCursor, more bool)
}

// DueCursor is a place in the queue; the zero value is its beginning.
type DueCursor struct {
	At     int64 // microseconds
	Digest string
}

// Garbage is a blob whose row is claimed and whose bytes in the store are to be deleted now.
type Garbage struct {
	Digest oci.Digest
	Size   int64
	Place  string // see Blob.Place
}

// Unlinked is a blob that a repository has no longer.
type Unlinked struct {
	RepoID int64
	Digest oci.Digest
}

// Collected is what a batch did.
type Collected struct {
	Examined int
	Garbage  []Garbage // whose rows are claimed
	Until    time.Time // of the claims, by the database's clock
	// Gone are blobs that were in this database only, and GoneBytes the sum of their sizes.
	Gone      []oci.Digest
	GoneBytes int64
	Unlinked  []Unlinked // what is needed, but not in this repository; caches forget them
	Dropped   []Unlinked // what is not needed at all; caches of this process forget them before the commit is answered
	Trashed   []Unlinked // manifests that followed their parents or their subject; caches forget them
	Next      DueCursor  // behind the last one
	More      bool       // there may be more behind Next
}

func (o *Collecting) read(c Collected) {
	if o.Read != nil {
		o.Read(c.Next, c.More)
	}
}

// dueBlob is a row of the queue.
type dueBlob struct {
	Garbage
	key            string // the digest as text
	inline, stored bool
	state          BlobState
	leaseUntil     int64
	need           need
	busy           bool // somebody may be about to need it
}

func scanDueBlob(rows *sql.Rows, b *dueBlob) (err error) {
	if err = rows.Scan(&b.key, &b.Size, &b.Place, &b.inline, &b.stored, &b.state, &b.leaseUntil, &b.need); err == nil {
		b.Digest, err = oci.ParseDigest(b.key)
	}
	return err
}

// keys are the digests of those blobs for which a condition holds.
func keys(blobs []dueBlob, has func(b *dueBlob) bool) (ds []string) {
	for i := range blobs {
		if has(&blobs[i]) {
			ds = append(ds, blobs[i].key)
		}
	}
	return ds
}

// Collect decides about the blobs that are due, as the package comment says. What it returns as claims is deleted from the
// store before they end, and then told to EndClaims or ReleaseClaims. It is harmless when that never happens: the blobs are
// due again.
func (tx *Tx) Collect(o Collecting) (c Collected, err error) {
	if err := tx.beginClaim(); err != nil {
		return c, err
	}
	now := tx.clock()
	ask := needOf // where nobody else can write now, it is asked at once
	if tx.d.skipLocked != "" {
		ask = `0`
	}
	due, err := many(tx.ctx, tx.s, scanDueBlob, `SELECT v.digest, v.size, v.place, v.inline, v.stored, v.state, v.lease_until, `+ask+` FROM blob v
		WHERE v.lease_until > 0 AND v.lease_until <= $1 AND (v.lease_until, v.digest) > ($2, $3) AND (v.state <> 1 OR v.lease_until <= $4)
		ORDER BY v.lease_until, v.digest LIMIT $5`+tx.d.skipLocked, toMicros(o.Due), o.After.At, o.After.Digest, toMicros(now.Add(-o.Yield)), o.Limit)
	if err != nil || len(due) == 0 {
		o.read(c)
		return c, err
	}
	last := due[len(due)-1]
	c.Examined, c.Next, c.More = len(due), DueCursor{last.leaseUntil, last.key}, len(due) == o.Limit
	c.Until = now.Add(o.Hold)

	// What is in the trash needs its bytes as well, so this changes nobody's need.
	mayFollow := func(b *dueBlob) bool { return b.need == byBeing || tx.d.skipLocked != "" }
	if c.Trashed, err = tx.trashDue(o, keys(due, mayFollow)); err != nil {
		return c, err
	}
	o.read(c)
	if tx.d.skipLocked != "" {
		needed, err := tx.needed(keys(due, func(*dueBlob) bool { return true }))
		if err != nil {
			return c, err
		}
		for i := range due {
			due[i].need = needed[due[i].key]
		}
	}
	free, err := tx.takeLinks(due)
	if err != nil {
		return c, err
	}
	if err := tx.settle(due, &c); err != nil {
		return c, err
	}
	return c, tx.claimAll(free, &c)
}

// Of the conditions under which something needs a digest, each has an index that begins with it. The subject of a manifest
// is not among them: who refers to it follows it to the trash, or is kept for itself.
const (
	edgeNeeds     = `EXISTS (SELECT 1 FROM edge e WHERE e.child = v.digest AND e.kind <> 4)`
	manifestNeeds = `EXISTS (SELECT 1 FROM manifest m WHERE m.digest = v.digest)`
	trashNeeds    = `EXISTS (SELECT 1 FROM trash t WHERE t.digest = v.digest)`
	uploadNeeds   = `EXISTS (SELECT 1 FROM upload u WHERE u.committing = v.digest AND u.committing <> '')`

	neededBy = edgeNeeds + ` OR ` + manifestNeeds + ` OR ` + trashNeeds + ` OR ` + uploadNeeds
	// freeBy is the opposite of neededBy, as a database can make joins of it.
	freeBy = `NOT ` + edgeNeeds + ` AND NOT ` + manifestNeeds + ` AND NOT ` + trashNeeds + ` AND NOT ` + uploadNeeds
	// needOf is a need.
	needOf = `CASE WHEN ` + manifestNeeds + ` THEN 3 WHEN ` + edgeNeeds + ` OR ` + trashNeeds + ` THEN 2 WHEN ` + uploadNeeds + ` THEN 1 ELSE 0 END`
)

// need is what needs a blob.
type need int

const (
	byNothing need = iota
	byUpload       // an upload that is about to become it, and that may die
	byContent      // whose end is a reason for Review
	byBeing        // the same: it is a manifest that lives
)

// needed says of ds what needs them, all asked at one moment.
func (tx *Tx) needed(ds []string) (map[string]need, error) {
	needed := make(map[string]need, len(ds))
	err := tx.s.query(tx.ctx, func(rows *sql.Rows) error {
		var d string
		var by need
		err := rows.Scan(&d, &by)
		needed[d] = by
		return err
	}, `SELECT v.digest, `+needOf+` FROM (`+tx.d.rowsOf("$1")+`) v`, tx.d.listOf(ds))
	return needed, err
}

// takeLinks locks the links of what nothing needs, so that no manifest that is being put relies on them, and asks again:
// free are those for which the answer is the same. Who is about to put one has it locked, and is not waited for.
func (tx *Tx) takeLinks(due []dueBlob) (free []dueBlob, err error) {
	goes := func(b *dueBlob) bool { return b.state == Claimed || b.need == byNothing && !b.busy }
	if ds := keys(due, goes); tx.d.skipLocked != "" && len(ds) > 0 {
		links := map[string]int{}
		count := func(query string, step int) error {
			return tx.s.query(tx.ctx, func(rows *sql.Rows) error {
				var d string
				err := rows.Scan(&d)
				links[d] += step
				return err
			}, query, tx.d.listOf(ds))
		}
		if err := count(`SELECT digest FROM repo_blob WHERE digest `+tx.d.inList("$1")+tx.d.skipLocked, 1); err != nil {
			return nil, err
		}
		if err := count(`SELECT digest FROM repo_blob WHERE digest `+tx.d.inList("$1"), -1); err != nil {
			return nil, err
		}
		again, err := tx.needed(ds)
		if err != nil {
			return nil, err
		}
		for i := range due {
			if b := &due[i]; goes(b) {
				b.need = again[b.key]
				b.busy = b.need == byNothing && links[b.key] != 0 // the next run looks again
			}
		}
	}
	for i := range due {
		if goes(&due[i]) {
			free = append(free, due[i])
		}
	}
	return free, nil
}

// settle takes what is needed out of the queue, and from repositories in which nothing needs it any more.
func (tx *Tx) settle(due []dueBlob, c *Collected) error {
	stays := func(b *dueBlob) bool { return b.state != Claimed && b.need != byNothing && !b.busy }
	ds := keys(due, stays)
	if len(ds) == 0 {
		return nil
	}
	const links = `SELECT repo_id, digest FROM repo_blob WHERE digest `
	const unneeded = ` AND NOT EXISTS (SELECT 1 FROM edge e WHERE e.child = repo_blob.digest AND e.repo_id = repo_blob.repo_id)
		AND NOT EXISTS (SELECT 1 FROM manifest m WHERE m.digest = repo_blob.digest AND m.repo_id = repo_blob.repo_id)
		AND NOT EXISTS (SELECT 1 FROM trash t WHERE t.digest = repo_blob.digest AND t.repo_id = repo_blob.repo_id)`
	loose, err := many(tx.ctx, tx.s, scanRepoDigest, links+tx.d.inList("$1")+unneeded, tx.d.listOf(ds))
	if err != nil {
		return err
	}
	held := map[string]bool{}
	if len(loose) > 0 {
		if held, err = tx.unlinkLoose(loose, links, unneeded, ds, c); err != nil {
			return err
		}
	}
	return tx.dequeue(due, func(b *dueBlob) bool { return stays(b) && !held[b.key] })
}

// unlinkLoose deletes links that nothing in their repositories needs. held are the digests of those that somebody had locked,
// perhaps for a manifest that is refused in the end: their blobs stay due.
func (tx *Tx) unlinkLoose(loose []repoDigest, links, unneeded string, ds []string, c *Collected) (held map[string]bool, err error) {
	if tx.d.skipLocked != "" {
		if loose, err = many(tx.ctx, tx.s, scanRepoDigest, links+tx.d.inList("$1")+unneeded+tx.d.skipLocked, tx.d.listOf(ds)); err != nil {
			return nil, err
		}
	}
	for _, l := range loose { // asked again, now that no manifest can begin to rely on it
		n, err := tx.exec(`DELETE FROM repo_blob WHERE digest = $1 AND repo_id = $2`+unneeded, l.digest.String(), l.repoID)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			tx.changed(BlobGone, l.repoID, l.digest.String())
			c.Unlinked = append(c.Unlinked, Unlinked{l.repoID, l.digest})
		}
	}
	held = map[string]bool{}
	if tx.d.skipLocked == "" {
		return held, nil
	}
	left, err := many(tx.ctx, tx.s, scanRepoDigest, links+tx.d.inList("$1")+unneeded, tx.d.listOf(ds))
	for _, l := range left {
		held[l.digest.String()] = true
	}
	return held, err
}

// dequeue takes blobs out of the queue whose last reference will tell collection. The end of an upload tells nobody, and it
// may have come since it was asked for: what only an upload needs is looked at again.
func (tx *Tx) dequeue(due []dueBlob, stays func(*dueBlob) bool) error {
	now := toMicros(tx.clock())
	kept := keys(due, func(b *dueBlob) bool { return stays(b) && b.need >= byContent })
	later := keys(due, func(b *dueBlob) bool { return stays(b) && b.need == byUpload && b.leaseUntil <= now })
	if len(kept) > 0 {
		if _, err := tx.exec(`UPDATE blob SET lease_until = 0 WHERE digest `+tx.d.inList("$1"), tx.d.listOf(kept)); err != nil {
			return err
		}
	}
	if len(later) == 0 {
		return nil
	}
	_, err := tx.exec(`UPDATE blob SET lease_until = $2 WHERE digest `+tx.d.inList("$1"), tx.d.listOf(later), tx.reviewAt())
	return err
}

// claimAll removes what the database has of blobs that nothing needs, and claims those of which the store may have bytes.
func (tx *Tx) claimAll(free []dueBlob, c *Collected) error {
	if len(free) == 0 {
		return nil
	}
	// Other replicas are not told of all these: what they remember of a blob whose lease is over they ask about before they
	// promise it, and a link that they make asks for the row.
	var all, inline, gone, claimed []string
	damaged := false
	for _, b := range free {
		d := b.key
		all = append(all, d)
		if b.inline {
			inline = append(inline, d)
		}
		damaged = damaged || b.state == Damaged
		if b.inline && !b.stored && b.state != Claimed {
			gone = append(gone, d)
			c.Gone = append(c.Gone, b.Digest)
			c.GoneBytes += b.Size
		} else {
			claimed = append(claimed, d)
			c.Garbage = append(c.Garbage, b.Garbage)
		}
	}
	links, err := many(tx.ctx, tx.s, scanRepoDigest, `DELETE FROM repo_blob WHERE digest `+tx.d.inList("$1")+` RETURNING repo_id, digest`, tx.d.listOf(all))
	if err != nil {
		return err
	}
	for _, l := range links {
		c.Dropped = append(c.Dropped, Unlinked{l.repoID, l.digest})
	}
	steps := []struct {
		query string
		ds    []string
	}{
		{`DELETE FROM blob_content WHERE digest `, inline},
		{`DELETE FROM blob WHERE digest `, gone},
	}
	if damaged {
		steps = append(steps, struct {
			query string
			ds    []string
		}{`DELETE FROM damage WHERE digest `, all})
	}
	for _, s := range steps {
		if len(s.ds) > 0 {
			if _, err := tx.exec(s.query+tx.d.inList("$1"), tx.d.listOf(s.ds)); err != nil {
				return err
			}
		}
	}
	for _, b := range free {
		if b.state == Damaged {
			d := b.Digest
			tx.AfterCommit(func() { tx.hurt(d, false) })
		}
	}
	if len(claimed) == 0 {
		return nil
	}
	_, err = tx.exec(`UPDATE blob SET state = 1, lease_until = $2 WHERE digest `+tx.d.inList("$1"), tx.d.listOf(claimed), toMicros(c.Until))
	return err
}

// EndClaims ends claims of Collect whose bytes are deleted: the digests are free to be pushed again. Those that somebody
// else has taken over since, or that live again, are left alone.
func (tx *Tx) EndClaims(claims []Garbage, until time.Time) error {
	ds := tx.d.listOf(claimDigests(claims))
	_, err := tx.exec(`DELETE FROM blob WHERE digest `+tx.d.inList("$1")+` AND state = 1 AND lease_until = $2`, ds, toMicros(until))
	return err
}

// ReleaseClaims ends claims whose bytes may or may not be deleted, and surely are not being deleted any more: a push makes
// them live again, and otherwise collection comes back to them after the pause.
func (tx *Tx) ReleaseClaims(claims []Garbage, until time.Time, pause time.Duration) error {
	if err := tx.forgetDamage(claimDigests(claims)...); err != nil {
		return err
	}
	_, err := tx.exec(`UPDATE blob SET state = 2, lease_until = $3 WHERE digest `+tx.d.inList("$1")+` AND state = 1 AND lease_until = $2`,
		tx.d.listOf(claimDigests(claims)), toMicros(until), toMicros(tx.clock().Add(pause)))
	return err
}

// takeOver releases the claim of a worker that died, for a push that brings the bytes; ErrClaimed when it still holds.
func (tx *Tx) takeOver(b Blob) error {
	now := tx.clock()
	if b.LeaseUntil.After(now) {
		return ErrClaimed
	}
	if err := tx.forgetDamage(b.Digest.String()); err != nil {
		return err
	}
	n, err := tx.exec(`UPDATE blob SET state = 2, lease_until = $2 WHERE digest = $1 AND state = 1 AND lease_until <= $3`,
		b.Digest.String(), tx.reviewAt(), toMicros(now))
	if err == nil && n == 0 {
		err = ErrClaimed
	}
	return err
}

func claimDigests(claims []Garbage) []string {
	ds := make([]string, len(claims))
	for i, c := range claims {
		ds[i] = c.Digest.String()
	}
	return ds
}

// jsonList and arrayList write digests, which need no quoting, as one parameter.
func jsonList(ds []string) string {
	if len(ds) == 0 {
		return `[]`
	}
	return `["` + strings.Join(ds, `","`) + `"]`
}

func arrayList(ds []string) string { return `{` + strings.Join(ds, `,`) + `}` }
