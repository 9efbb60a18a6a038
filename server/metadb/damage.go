package metadb

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/identity"
)

// Damaged blobs. A blob whose bytes are not what its digest says, or are gone, is put aside by Quarantine: from then on
// nobody is told that it is there, so that clients which ask before they push send it again, and PutBlob, or the intake,
// puts the new bytes in the place of the old ones. Release is for bytes that are right after all.
//
// A blob in that state without a row of damage is garbage whose deletion was given up half-way (ReleaseClaims): its bytes may
// be there or not, and collection comes back to it.

// Damage is what was found wrong with a blob.
type Damage struct {
	Digest  oci.Digest
	Size    int64 // bytes that the blob should have
	FoundAt time.Time
	FoundBy string // "pull", "scrub" or "fsck"
	Missing bool   // there are no bytes; else they are not the right ones
	Detail  string // for people: what was found instead
}

// missing marks, in the column detail, damage of which no bytes are left.
const missing = "missing: "

func scanDamage(rows *sql.Rows, d *Damage) error {
	err := rows.Scan(digest{&d.Digest}, &d.Size, micros{&d.FoundAt}, &d.FoundBy, &d.Detail)
	d.Detail, d.Missing = strings.CutPrefix(d.Detail, missing)
	return err
}

const damageColumns = `SELECT d.digest, d.size, d.found_at, d.found_by, d.detail FROM damage d JOIN blob b ON b.digest = d.digest AND b.state = 2`

// Damage finds what is wrong with a blob, or ErrNotFound.
func (r *Reads) Damage(ctx context.Context, d oci.Digest) (Damage, error) {
	return one(ctx, r.s, scanDamage, damageColumns+` WHERE d.digest = $1`, d.String())
}

// Damages are up to limit damaged blobs behind a digest, in the order of their digests; the zero digest begins.
func (r *Reads) Damages(ctx context.Context, after oci.Digest, limit int) ([]Damage, error) {
	return many(ctx, r.s, scanDamage, damageColumns+` WHERE d.digest > $1 ORDER BY d.digest LIMIT $2`, after.String(), limit)
}

// CountDamage is how many blobs are damaged, and how many of them have no bytes at all.
func (r *Reads) CountDamage(ctx context.Context) (damaged, gone int64, err error) {
	c, err := one(ctx, r.s, func(rows *sql.Rows, c *[2]int64) error { return rows.Scan(&c[0], &c[1]) },
		`SELECT COUNT(*), COALESCE(SUM(CASE WHEN d.detail LIKE 'missing: %' THEN 1 ELSE 0 END), 0)
		FROM damage d WHERE EXISTS (SELECT 1 FROM blob b WHERE b.digest = d.digest AND b.state = 2)`)
	return c[0], c[1], err
}

// Need is a tag, or a manifest without one, that cannot be pulled whole without some blob.
type Need struct {
	Repository string
	Tag        string     // "" for a manifest that no tag names
	Manifest   oci.Digest // of the tag
}

func scanNeed(rows *sql.Rows, n *Need) error {
	return rows.Scan(&n.Repository, &n.Tag, digest{&n.Manifest})
}

// Needs are up to limit tags, and manifests that no tag and no index names, that need a blob or manifest, by repository and
// tag: those of the manifests that refer to it, and of the indexes over them.
func (r *Reads) Needs(ctx context.Context, d oci.Digest, limit int) ([]Need, error) {
	return many(ctx, r.s, scanNeed, `WITH RECURSIVE up (repo_id, id, digest) AS (
			SELECT repo_id, id, digest FROM manifest WHERE digest = $1
			UNION SELECT m.repo_id, m.id, m.digest FROM edge e JOIN manifest m ON m.id = e.manifest_id WHERE e.child = $1 AND e.kind <= 3
			UNION SELECT m.repo_id, m.id, m.digest FROM up u JOIN edge e ON e.child = u.digest AND e.repo_id = u.repo_id
				JOIN manifest m ON m.id = e.manifest_id WHERE e.kind = 3)
		SELECT r.name, COALESCE(t.name, ''), u.digest FROM up u JOIN repository r ON r.id = u.repo_id
			LEFT JOIN tag t ON t.repo_id = u.repo_id AND t.digest = u.digest
		WHERE t.name IS NOT NULL OR NOT EXISTS (SELECT 1 FROM edge e JOIN manifest m ON m.id = e.manifest_id
			WHERE e.child = u.digest AND e.repo_id = u.repo_id AND e.kind = 3)
		ORDER BY 1, 2, 3 LIMIT $2`, d.String(), limit)
}

// Home is a repository that has some content, as a blob or as a manifest.
type Home struct {
	Repository string
	Manifest   bool
}

// Homes are up to limit repositories that have a blob or manifest, by name; those that have a manifest in their trash are among
// them. One that has it as both is there twice.
func (r *Reads) Homes(ctx context.Context, d oci.Digest, limit int) ([]Home, error) {
	return many(ctx, r.s, func(rows *sql.Rows, h *Home) error { return rows.Scan(&h.Repository, &h.Manifest) },
		`SELECT r.name, holder.manifest FROM (
			SELECT repo_id, FALSE AS manifest FROM repo_blob WHERE digest = $1
			UNION SELECT repo_id, TRUE FROM manifest WHERE digest = $1
			UNION SELECT repo_id, TRUE FROM trash WHERE digest = $1) holder JOIN repository r ON r.id = holder.repo_id
		ORDER BY r.name, holder.manifest LIMIT $2`, d.String(), limit)
}

// BlobsBehind are up to limit blobs behind a digest that are not being deleted, damaged ones too, in the order of their
// digests; the zero digest begins.
func (r *Reads) BlobsBehind(ctx context.Context, after oci.Digest, limit int) ([]Blob, error) {
	return many(ctx, r.s, scanBlob, `SELECT `+blobColumns+` FROM blob b WHERE b.digest > $1 AND b.state <> 1 ORDER BY b.digest LIMIT $2`, after.String(), limit)
}

// CountBlobs is how many blobs there are, and their bytes, without those that are being deleted. It reads all rows.
func (r *Reads) CountBlobs(ctx context.Context) (blobs, bytes int64, err error) {
	c, err := one(ctx, r.s, func(rows *sql.Rows, c *[2]int64) error { return rows.Scan(&c[0], &c[1]) },
		`SELECT COUNT(*), CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM blob WHERE state <> 1`)
	return c[0], c[1], err
}

// Quarantine puts a live blob aside. done is false when there is none any more, or when its bytes are in this database and
// are right by now. repos are the repositories whose cached entries the caller forgets after the commit; other replicas are
// told. Size and FoundAt of the damage are not used.
func (tx *Tx) Quarantine(m Damage) (repos []int64, done bool, err error) {
	b, err := tx.lockBlob(m.Digest, tx.d.forNoKeyUpdate)
	if errors.Is(err, ErrNotFound) || err == nil && b.State != Live {
		return nil, false, nil
	}
	if err == nil && b.Inline {
		var body []byte
		body, err = tx.Content(tx.ctx, m.Digest)
		if err == nil && oci.FromBytes(m.Digest.Algorithm(), body) == m.Digest {
			return nil, false, nil
		}
		if errors.Is(err, ErrNotFound) {
			err = nil
		}
	}
	if err != nil {
		return nil, false, err
	}
	detail := m.Detail
	if m.Missing {
		detail = missing + detail
	}
	if _, err := tx.exec(`UPDATE blob SET state = 2 WHERE digest = $1`, m.Digest.String()); err != nil {
		return nil, false, err
	}
	if _, err := tx.exec(`INSERT INTO damage (digest, size, found_at, found_by, detail) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (digest) DO UPDATE SET size = excluded.size, found_at = excluded.found_at, found_by = excluded.found_by, detail = excluded.detail`,
		m.Digest.String(), b.Size, toMicros(tx.now), m.FoundBy, detail); err != nil {
		return nil, false, err
	}
	tx.hurt(m.Digest, true)
	repos, err = many(tx.ctx, tx.s, column[int64], `SELECT repo_id FROM repo_blob WHERE digest = $1
		UNION SELECT repo_id FROM manifest WHERE digest = $1`, m.Digest.String())
	if err != nil {
		return nil, false, err
	}
	for _, id := range repos {
		tx.changed(BlobGone, id, m.Digest.String())
	}
	return repos, true, tx.tellDamage(m.Digest, event.KindBlobDamaged, m.Detail)
}

// Release makes a damaged blob live again as it is: its bytes were found to be right. done is false when it is not damaged.
func (tx *Tx) Release(d oci.Digest) (done bool, err error) {
	b, err := tx.lockBlob(d, tx.d.forNoKeyUpdate)
	if errors.Is(err, ErrNotFound) || err == nil && b.State != Damaged {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, tx.repaired(d, `UPDATE blob SET state = 0 WHERE digest = $1`, d.String())
}

// replace makes a damaged blob live with new bytes: content, or without it those that its caller has put into the store.
// Content that was here is damaged, too, or no longer what is read.
func (tx *Tx) replace(have, b Blob, content []byte) error {
	d := b.Digest.String()
	if _, err := tx.exec(`DELETE FROM blob_content WHERE digest = $1`, d); err != nil {
		return err
	}
	if content != nil {
		if _, err := tx.exec(`INSERT INTO blob_content (digest, bytes) VALUES ($1, $2)`, d, content); err != nil {
			return err
		}
	}
	lease := b.LeaseUntil
	if have.LeaseUntil.After(lease) {
		lease = have.LeaseUntil
	}
	return tx.repaired(b.Digest, `UPDATE blob SET state = 0, size = $2, inline = $3, stored = stored OR $5, lease_until = $4 WHERE digest = $1`,
		d, b.Size, content != nil, toMicros(lease), content == nil)
}

// repaired writes the row of a blob that is right again, and forgets the damage.
func (tx *Tx) repaired(d oci.Digest, query string, args ...any) error {
	if _, err := tx.exec(query, args...); err != nil {
		return err
	}
	n, err := tx.exec(`DELETE FROM damage WHERE digest = $1`, d.String())
	if err != nil || n == 0 { // a deletion was given up half-way, and nobody was told of any damage
		return err
	}
	tx.AfterCommit(func() { tx.hurt(d, false) })
	return tx.tellDamage(d, event.KindBlobRepaired, "")
}

// ForgetRepaired removes damage of blobs that are live again or gone: the intake makes a blob live without a look here.
func (tx *Tx) ForgetRepaired() (int64, error) {
	return tx.exec(`DELETE FROM damage WHERE NOT EXISTS (SELECT 1 FROM blob b WHERE b.digest = damage.digest AND b.state = 2)`)
}

// forgetDamage is for those of the digests that are being deleted, before their claims end: a row of damage that was left
// (see ForgetRepaired) would have people told that they are damaged, or were repaired.
func (tx *Tx) forgetDamage(ds ...string) error {
	_, err := tx.exec(`DELETE FROM damage WHERE digest `+tx.d.inList("$1")+`
		AND EXISTS (SELECT 1 FROM blob b WHERE b.digest = damage.digest AND b.state = 1)`, tx.d.listOf(ds))
	return err
}

// hurt tells the intake, where there is one, which small blobs it must leave to PutBlob.
func (tx *Tx) hurt(d oci.Digest, is bool) {
	if t, ok := tx.s.(*transaction); ok && t.hurt != nil {
		t.hurt(d.String(), is)
	}
}

const (
	toldNeeds = 200 // tags of which the events of one blob tell
	toldRepos = 50  // and repositories
)

// tellDamage emits an event for each repository that needs the blob, with the tags that do, and at least one.
func (tx *Tx) tellDamage(d oci.Digest, kind, detail string) error {
	needs, err := tx.Needs(tx.ctx, d, toldNeeds)
	if err != nil {
		return err
	}
	var repos []string
	tags := map[string][]string{}
	for _, n := range needs {
		if _, ok := tags[n.Repository]; !ok {
			repos = append(repos, n.Repository)
			tags[n.Repository] = nil
		}
		if n.Tag != "" {
			tags[n.Repository] = append(tags[n.Repository], n.Tag)
		}
	}
	if len(repos) == 0 {
		repos = []string{""}
	}
	ctx := identity.With(tx.ctx, identity.Principal{Kind: identity.System})
	var facts []event.Event
	for _, name := range repos[:min(len(repos), toldRepos)] {
		facts = append(facts, event.Damage(ctx, kind, name, d).WithDetail(ctx, event.Detail{Damage: &event.DamageDetail{What: detail, Tags: tags[name]}}))
	}
	return tx.Emit(facts...)
}
