package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// The causes of moves and deletions that were not asked for by that name: of journals, of the trash and of events.
const (
	byRollback   = "rollback"
	byRestore    = "restore"
	withManifest = "deleted with its manifest"
)

// maxAgent bounds what the journal keeps of a client's name, in bytes: its first word, such as docker/27.3.1.
const maxAgent = 40

// origin says who is calling and from where: address and program, and the cause behind a semicolon.
func origin(ctx context.Context, cause string) metadb.Origin {
	who := identity.From(ctx)
	addr, agent := who.Addr, ""
	if r := event.RequestFrom(ctx); r != nil {
		agent = firstWord(r.UserAgent)
		if addr == "" {
			addr = r.Addr
		}
	}
	source := strings.TrimSpace(addr + " " + agent)
	if cause != "" {
		source += "; " + cause
	}
	return metadb.Origin{By: who.String(), Source: source}
}

// firstWord is the program of a User-Agent header with its version, and nothing that could be taken for more than that.
func firstWord(agent string) string {
	end := strings.IndexFunc(agent, func(r rune) bool { return r <= ' ' || r > '~' || r == ';' })
	if end < 0 {
		end = len(agent)
	}
	return agent[:min(end, maxAgent)]
}

// TagEntry is an entry of a tag's journal: from Since on the tag pointed at Digest, or did not exist when that is zero.
type TagEntry struct {
	Tag    string
	Digest oci.Digest
	Since  time.Time
	By     string // who moved it; "" when the caller may not know
	From   string // the address and program from where; "" when not known
	Cause  string // why: "rollback", "restore", "deleted with its manifest"; "" for a push or a deletion of the tag itself
}

func tagEntry(e metadb.TagEntry, full bool) TagEntry {
	out := TagEntry{Tag: e.Name, Digest: e.Digest, Since: e.Since}
	out.From, out.Cause = splitSource(e.Source)
	if full {
		out.By = e.By
	} else {
		out.From = ""
	}
	return out
}

func splitSource(source string) (from, cause string) {
	from, cause, _ = strings.Cut(source, "; ")
	return from, cause
}

// maxEntries is the most entries of one page of a history or of the trash.
const maxEntries = 1000

func pageOf(n int) int {
	if n <= 0 || n > maxEntries {
		return maxEntries
	}
	return n
}

// TagHistory is the journal of a tag, newest entry first, from before a time, or from the newest on when that is zero. n is
// how many are wanted at most, 0 for as many as the registry gives; the next page begins before the last entry's Since. Who
// moved the tag, and from where, is told to those who may move it themselves.
func (s *Service) TagHistory(ctx context.Context, name ref.Name, tag string, before time.Time, n int) ([]TagEntry, error) {
	if err := s.o.Access.Check(ctx, identity.List, name); err != nil {
		return nil, err
	}
	repo, err := s.repository(ctx, name)
	if err != nil {
		return nil, err
	}
	entries, err := s.o.DB.TagHistory(ctx, repo.ID, tag, before, pageOf(n))
	if err != nil {
		return nil, fmt.Errorf("registry: history of %s:%s: %w", name, tag, err)
	}
	if len(entries) == 0 && before.IsZero() {
		return nil, s.unknownTag(ctx, repo, tag)
	}
	return s.entries(ctx, name, entries), nil
}

func (s *Service) entries(ctx context.Context, name ref.Name, entries []metadb.TagEntry) []TagEntry {
	full := s.o.Access.Check(ctx, identity.Push, name) == nil
	out := make([]TagEntry, len(entries))
	for i, e := range entries {
		out[i] = tagEntry(e, full)
	}
	return out
}

// TagAt is what a tag pointed at at a time; a tag that was not there then is a NotFound.
func (s *Service) TagAt(ctx context.Context, name ref.Name, tag string, at time.Time) (TagEntry, error) {
	if err := s.o.Access.Check(ctx, identity.List, name); err != nil {
		return TagEntry{}, err
	}
	repo, err := s.repository(ctx, name)
	if err != nil {
		return TagEntry{}, err
	}
	e, err := s.tagAt(ctx, repo, tag, at)
	if err != nil {
		return TagEntry{}, err
	}
	return s.entries(ctx, name, []metadb.TagEntry{e})[0], nil
}

func (s *Service) tagAt(ctx context.Context, repo *metadb.Repository, tag string, at time.Time) (metadb.TagEntry, error) {
	e, err := s.o.DB.TagAt(ctx, repo.ID, tag, at)
	switch {
	case errors.Is(err, metadb.ErrNotFound):
		return e, fault.New(fault.NotFound, fault.ManifestUnknown, "tag %s of %s is not known to have existed at %s; its history begins later, or there is none", tag, repo.Name, stamp(at))
	case err != nil:
		return e, fmt.Errorf("registry: tag %s:%s at %s: %w", repo.Name, tag, stamp(at), err)
	case e.Digest.IsZero():
		return e, fault.New(fault.NotFound, fault.ManifestUnknown, "tag %s of %s did not exist at %s; it was deleted at %s", tag, repo.Name, stamp(at), stamp(e.Since))
	}
	return e, nil
}

// stamp is a time in messages.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// TagsAt are the tags that a repository had at a time, in the order of their names, behind after; n as in TagHistory.
func (s *Service) TagsAt(ctx context.Context, name ref.Name, at time.Time, after string, n int) ([]TagEntry, error) {
	if err := s.o.Access.Check(ctx, identity.List, name); err != nil {
		return nil, err
	}
	repo, err := s.repository(ctx, name)
	if err != nil {
		return nil, err
	}
	entries, err := s.o.DB.TagsAt(ctx, repo.ID, at, after, pageOf(n))
	if err != nil {
		return nil, fmt.Errorf("registry: tags of %s at %s: %w", name, stamp(at), err)
	}
	return s.entries(ctx, name, entries), nil
}

// ListTags are the tags of a repository behind the key after, in an order by name or moved; n as in TagHistory. next is the key
// behind which the list goes on, "" at its end.
func (s *Service) ListTags(ctx context.Context, name ref.Name, o metadb.Order, after string, n int) (tags []TagEntry, next string, err error) {
	if err := s.o.Access.Check(ctx, identity.List, name); err != nil {
		return nil, "", err
	}
	repo, err := s.repository(ctx, name)
	if err != nil {
		return nil, "", err
	}
	n = pageOf(n)
	found, err := s.o.DB.ListTags(ctx, repo.ID, o, after, n)
	if err != nil {
		return nil, "", fmt.Errorf("registry: tags of %s: %w", name, err)
	}
	entries := make([]metadb.TagEntry, len(found))
	for i, t := range found {
		entries[i] = t.TagEntry
	}
	if len(found) == n {
		next = o.Key(found[n-1].Name, 0, found[n-1].UpdatedAt)
	}
	return s.entries(ctx, name, entries), next, nil
}

// DeletedTag is a tag that is gone, and what it pointed at.
type DeletedTag struct {
	Tag       string
	Digest    oci.Digest
	DeletedAt time.Time
	By        string
	From      string
	Cause     string
}

// DeletedTags are the tags that a repository had once, in the order of their names, behind after; n as in TagHistory. It is
// for those who may push, because RestoreTag is.
func (s *Service) DeletedTags(ctx context.Context, name ref.Name, after string, n int) ([]DeletedTag, error) {
	if err := s.o.Access.Check(ctx, identity.Push, name); err != nil {
		return nil, err
	}
	repo, err := s.repository(ctx, name)
	if err != nil {
		return nil, err
	}
	rows, err := s.o.DB.DeletedTags(ctx, repo.ID, after, pageOf(n))
	if err != nil {
		return nil, fmt.Errorf("registry: deleted tags of %s: %w", name, err)
	}
	out := make([]DeletedTag, len(rows))
	for i, t := range rows {
		out[i] = DeletedTag{Tag: t.Name, Digest: t.Digest, DeletedAt: t.DeletedAt, By: t.By}
		out[i].From, out[i].Cause = splitSource(t.Source)
	}
	return out, nil
}

// Rollback says where a tag shall point again. Without Digest and At that is where it pointed before it came to where it is.
type Rollback struct {
	Digest oci.Digest // a manifest of the repository, or of its trash
	At     time.Time  // where the tag pointed at that time
	// Expect is what the tag has to point at now; another one is a Conflict. Zero: whatever it is.
	Expect oci.Digest
}

// MovedTag is a tag that was moved.
type MovedTag struct {
	Tag      string
	Digest   oci.Digest // where it points now
	Before   oci.Digest // where it pointed; zero when it was not there
	Restored bool       // the manifest came back from the trash for it
}

// RollbackTag points a tag where it pointed once, or at any manifest that is there. It is one more entry of the tag's
// journal: nothing of it is lost, and a rollback of the rollback goes back. A manifest that is in the trash is restored,
// with the children of an index that are there, too. A tag that was deleted comes back.
func (s *Service) RollbackTag(ctx context.Context, name ref.Name, tag string, to Rollback) (*MovedTag, error) {
	if err := s.o.Access.Check(ctx, identity.Restore, name); err != nil {
		return nil, err
	}
	if err := s.writable(); err != nil {
		return nil, err
	}
	if _, err := ref.ParseTag(tag); err != nil {
		return nil, err
	}
	repo, err := s.repository(ctx, name)
	if err != nil {
		return nil, err
	}
	if !to.Digest.IsZero() && !to.At.IsZero() {
		return nil, fault.New(fault.Invalid, fault.TagInvalid, "rollback of tag %s names a digest and a time; name one of them", tag)
	}
	return s.moveBack(ctx, repo, tag, to.Expect, byRollback, func(tx *metadb.Tx) (way, error) {
		return s.target(ctx, tx, repo, tag, to)
	})
}

// way is where a tag goes, and where it has to be when it does: somewhere, nowhere, or wherever it is.
type way struct {
	to   oci.Digest
	from oci.Digest // zero: wherever
	free bool       // nowhere
}

// target is where a rollback goes, and, when that depends on where the tag is, where that has to be.
func (s *Service) target(ctx context.Context, tx *metadb.Tx, repo *metadb.Repository, tag string, to Rollback) (way, error) {
	switch {
	case !to.Digest.IsZero():
		return way{to: to.Digest}, nil
	case !to.At.IsZero():
		e, err := s.tagAt(ctx, repo, tag, to.At)
		return way{to: e.Digest}, err
	}
	now := oci.Digest{}
	for before := (time.Time{}); ; {
		entries, err := tx.TagHistory(ctx, repo.ID, tag, before, 100)
		if err != nil {
			return way{}, err
		}
		if len(entries) == 0 {
			break
		}
		for _, e := range entries {
			if before.IsZero() && e == entries[0] {
				now = e.Digest
			} else if !e.Digest.IsZero() && e.Digest != now {
				return way{to: e.Digest, from: now, free: now.IsZero()}, nil
			}
		}
		before = entries[len(entries)-1].Since
	}
	if now.IsZero() {
		return way{}, s.unknownTag(ctx, repo, tag)
	}
	return way{}, fault.New(fault.NotFound, fault.ManifestUnknown, "tag %s of %s has always pointed at %s, as far as its history reaches back; name a digest to point it elsewhere", tag, repo.Name, now.Short())
}

// RestoreTag puts a deleted tag back where it pointed, with its manifest when that is in the trash. A tag that exists is a
// Conflict.
func (s *Service) RestoreTag(ctx context.Context, name ref.Name, tag string) (*MovedTag, error) {
	if err := s.o.Access.Check(ctx, identity.Restore, name); err != nil {
		return nil, err
	}
	if err := s.writable(); err != nil {
		return nil, err
	}
	repo, err := s.repository(ctx, name)
	if err != nil {
		return nil, err
	}
	return s.moveBack(ctx, repo, tag, oci.Digest{}, byRestore, func(tx *metadb.Tx) (way, error) {
		entries, err := tx.TagHistory(ctx, repo.ID, tag, time.Time{}, 2)
		switch {
		case err != nil:
			return way{}, err
		case len(entries) > 0 && !entries[0].Digest.IsZero():
			return way{}, fault.New(fault.Conflict, fault.TagInvalid, "tag %s of %s is there and points at %s; to point it where it was, roll it back", tag, repo.Name, entries[0].Digest.Short())
		case len(entries) < 2:
			return way{}, fault.New(fault.NotFound, fault.ManifestUnknown, "tag %s of %s is not known to have existed; there is nothing to restore", tag, repo.Name)
		}
		return way{to: entries[1].Digest, free: true}, nil
	})
}

// moveBack points a tag where choose says, if it is where that and the caller expect it (zero: anywhere), and brings the manifest
// back for it.
func (s *Service) moveBack(ctx context.Context, repo *metadb.Repository, tag string, expect oci.Digest, cause string,
	choose func(tx *metadb.Tx) (way, error)) (*MovedTag, error) {
	var out *MovedTag
	err := s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		by, err := choose(tx)
		if err != nil {
			return err
		}
		d := by.to
		out = &MovedTag{Tag: tag, Digest: d}
		m, restored, err := s.bringBack(ctx, tx, repo, d, cause, true)
		if errors.Is(err, metadb.ErrNotFound) {
			return fault.New(fault.NotFound, fault.ManifestUnknown, "manifest %s, where tag %s of %s should point, is not there any more, and not in the trash; push it again", d, tag, repo.Name)
		}
		if err != nil {
			return err
		}
		out.Restored = restored
		if out.Before, err = tx.PutTag(repo.ID, tag, d, origin(ctx, cause)); err != nil {
			return err
		}
		// Where it goes may have been chosen by where it was: that holds beside what the caller expects.
		if by.free && !out.Before.IsZero() {
			return fault.New(fault.Conflict, fault.TagInvalid, "tag %s of %s points at %s and was not there a moment ago; it was pushed meanwhile", tag, repo.Name, out.Before.Short())
		}
		for _, want := range []oci.Digest{expect, by.from} {
			if want.IsZero() || out.Before == want {
				continue
			}
			return fault.New(fault.Conflict, fault.TagInvalid, "tag %s of %s points at %s and not at %s, as was expected; it was moved meanwhile", tag, repo.Name, or(out.Before, "nothing"), want.Short())
		}
		if out.Before == d {
			return nil
		}
		tx.AfterCommit(func() { s.tags.drop(tagKey{repo.ID, tag}) })
		return tx.Emit(event.TagMoved(ctx, repo.Name, tag, d).WithDetail(ctx, event.Detail{MediaType: m.MediaType, Size: m.Size, Cause: cause}))
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func or(d oci.Digest, nothing string) string {
	if d.IsZero() {
		return nothing
	}
	return d.Short()
}

// trimBatch bounds how many entries of journals a transaction of TrimHistory looks at.
const trimBatch = 5000

// TrimHistory forgets what tags were longer ago than keep. What is true at the beginning of that time stays known.
func (s *Service) TrimHistory(ctx context.Context, keep time.Duration) error {
	if err := s.o.Access.CheckAdmin(ctx); err != nil {
		return err
	}
	before := s.o.Now().Add(-keep)
	var at metadb.HistoryCursor
	for seen, total := trimBatch, 0; ; {
		err := s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
			next, n, removed, err := tx.TrimTagHistory(before, at, trimBatch)
			tx.AfterCommit(func() { at, seen, total = next, n, total+removed })
			return err
		})
		if err != nil {
			return err
		}
		if seen < trimBatch {
			if total > 0 {
				s.o.Log.InfoContext(ctx, "history of tags trimmed", "entries", total, "before", before)
			}
			return nil
		}
	}
}
