package metadb

import (
	"database/sql"
	"slices"
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
	Gone      int
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
	inline, stored bool
	state          BlobState
	leaseUntil     int64
}

func scanDueBlob(rows *sql.Rows, b *dueBlob) error {
	return rows.Scan(digest{&b.Digest}, &b.Size, &b.Place, &b.inline, &b.stored, &b.state, &b.leaseUntil)
}

// Collect decides about the blobs that are due, as the package comment says. What it returns as claims is deleted from the
// store before they end, and then told to EndClaims or ReleaseClaims. It is harmless when that never happens: the blobs are
// due again.
func (tx *Tx) Collect(o Collecting) (c Collected, err error) {
	if err := tx.beginClaim(); err != nil {
		return c, err
	}
	now := tx.clock()
	due, err := many(tx.ctx, tx.s, scanDueBlob, `SELECT digest, size, place, inline, stored, state, lease_until FROM blob
		WHERE lease_until > 0 AND lease_until <= $1 AND (lease_until, digest) > ($2, $3) AND (state <> 1 OR lease_until <= $4)
		ORDER BY lease_until, digest LIMIT $5`+tx.d.skipLocked, toMicros(o.Due), o.After.At, o.After.Digest, toMicros(now), o.Limit)
	if err != nil || len(due) == 0 {
		o.read(c)
		return c, err
	}
	last := due[len(due)-1]
	c.Examined, c.Next, c.More = len(due), DueCursor{last.leaseUntil, last.Digest.String()}, len(due) == o.Limit
	c.Until = now.Add(o.Hold)

	all := make([]string, len(due))
	for i, b := range due {
		all[i] = b.Digest.String()
	}
	if c.Trashed, err = tx.trashDue(o, all); err != nil {
		return c, err
	}
	o.read(c)
	needed, err := tx.needed(all)
	if err != nil {
		return c, err
	}
	free, busy, err := tx.takeLinks(due, needed)
	if err != nil {
		return c, err
	}
	if err := tx.settle(due, needed, busy, &c); err != nil {
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

	keptBy   = edgeNeeds + ` OR ` + manifestNeeds + ` OR ` + trashNeeds
	neededBy = keptBy + ` OR ` + uploadNeeds
	// freeBy is the opposite of neededBy, as a database can make joins of it.
	freeBy = `NOT ` + edgeNeeds + ` AND NOT ` + manifestNeeds + ` AND NOT ` + trashNeeds + ` AND NOT ` + uploadNeeds
)

// need is what needs a blob.
type need int

const (
	byNothing need = iota
	byUpload       // an upload that is about to become it, and that may die
	byContent      // whose end is a reason for Review
)

// needed says of those of ds that something needs what that is, all asked at one moment.
func (tx *Tx) needed(ds []string) (map[string]need, error) {
	needed := make(map[string]need, len(ds))
	err := tx.s.query(tx.ctx, func(rows *sql.Rows) error {
		var d string
		var kept bool
		err := rows.Scan(&d, &kept)
		if needed[d] = byUpload; kept {
			needed[d] = byContent
		}
		return err
	}, `SELECT v.digest, `+keptBy+` FROM (`+tx.d.rowsOf("$1")+`) v WHERE `+neededBy, tx.d.listOf(ds))
	return needed, err
}

// takeLinks locks the links of what nothing needs, so that no manifest that is being put relies on them, and asks again:
// free are those for which the answer is the same. Who is about to put one has it locked, and is not waited for.
func (tx *Tx) takeLinks(due []dueBlob, needed map[string]need) (free []dueBlob, busy map[string]bool, err error) {
	var ds []string
	for _, b := range due {
		if d := b.Digest.String(); b.state == Claimed || needed[d] == byNothing {
			free, ds = append(free, b), append(ds, d)
		}
	}
	if tx.d.skipLocked == "" || len(free) == 0 {
		return free, nil, nil
	}
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
		return nil, nil, err
	}
	if err := count(`SELECT digest FROM repo_blob WHERE digest `+tx.d.inList("$1"), -1); err != nil {
		return nil, nil, err
	}
	again, err := tx.needed(ds)
	if err != nil {
		return nil, nil, err
	}
	busy = map[string]bool{}
	kept := free[:0]
	for _, b := range free {
		d := b.Digest.String()
		switch {
		case b.state == Claimed:
			kept = append(kept, b)
		case again[d] != byNothing:
			needed[d] = again[d]
		case links[d] != 0:
			busy[d] = true // the next run looks again
		default:
			kept = append(kept, b)
		}
	}
	return kept, busy, nil
}

// settle takes what is needed out of the queue, and from repositories in which nothing needs it any more.
func (tx *Tx) settle(due []dueBlob, needed map[string]need, busy map[string]bool, c *Collected) error {
	var ds []string
	for _, b := range due {
		if d := b.Digest.String(); b.state != Claimed && needed[d] != byNothing && !busy[d] {
			ds = append(ds, d)
		}
	}
	if len(ds) == 0 {
		return nil
	}
	const unneeded = ` AND NOT EXISTS (SELECT 1 FROM edge e WHERE e.child = repo_blob.digest AND e.repo_id = repo_blob.repo_id)
		AND NOT EXISTS (SELECT 1 FROM manifest m WHERE m.digest = repo_blob.digest AND m.repo_id = repo_blob.repo_id)
		AND NOT EXISTS (SELECT 1 FROM trash t WHERE t.digest = repo_blob.digest AND t.repo_id = repo_blob.repo_id)`
	const links = `SELECT repo_id, digest FROM repo_blob WHERE digest `
	loose, err := many(tx.ctx, tx.s, scanRepoDigest, links+tx.d.inList("$1")+unneeded, tx.d.listOf(ds))
	mayBeHeld := len(loose) > 0 && tx.d.skipLocked != ""
	if err == nil && mayBeHeld {
		loose, err = many(tx.ctx, tx.s, scanRepoDigest, links+tx.d.inList("$1")+unneeded+tx.d.skipLocked, tx.d.listOf(ds))
	}
	if err != nil {
		return err
	}
	for _, l := range loose { // asked again, now that no manifest can begin to rely on it
		n, err := tx.exec(`DELETE FROM repo_blob WHERE digest = $1 AND repo_id = $2`+unneeded, l.digest.String(), l.repoID)
		if err != nil {
			return err
		}
		if n > 0 {
			tx.changed(BlobGone, l.repoID, l.digest.String())
			c.Unlinked = append(c.Unlinked, Unlinked{l.repoID, l.digest})
		}
	}
	// A link that somebody had locked, perhaps for a manifest that is refused in the end, is looked at again: its blob stays due.
	held := map[string]bool{}
	if mayBeHeld {
		left, err := many(tx.ctx, tx.s, column[string], `SELECT digest FROM repo_blob WHERE digest `+tx.d.inList("$1")+unneeded, tx.d.listOf(ds))
		if err != nil {
			return err
		}
		for _, d := range left {
			held[d] = true
		}
	}
	return tx.dequeue(slices.DeleteFunc(due, func(b dueBlob) bool {
		d := b.Digest.String()
		return b.state == Claimed || needed[d] == byNothing || busy[d] || held[d]
	}), needed)
}

// dequeue takes blobs out of the queue whose last reference will tell collection. The end of an upload tells nobody, and it
// may have come since it was asked for: what only an upload needs is looked at again.
func (tx *Tx) dequeue(blobs []dueBlob, needed map[string]need) error {
	var kept, later []string
	now := toMicros(tx.clock())
	for _, b := range blobs {
		switch d := b.Digest.String(); {
		case needed[d] == byContent:
			kept = append(kept, d)
		case b.leaseUntil <= now:
			later = append(later, d)
		}
	}
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
		d := b.Digest.String()
		all = append(all, d)
		if b.inline {
			inline = append(inline, d)
		}
		damaged = damaged || b.state == Damaged
		if b.inline && !b.stored && b.state != Claimed {
			gone = append(gone, d)
			c.Gone++
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
