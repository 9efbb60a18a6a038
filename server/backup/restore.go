package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/internal/durable"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/metadb"
)

// Restoring says what is brought back where. From, To, Temp, Now and Log are required, and one of File and Database.
type Restoring struct {
	From     blob.Store
	To       blob.Store     // empty
	File     string         // SQLite database that does not exist yet
	Database metadb.Options // an empty PostgreSQL database, when File is ""
	Temp     string         // directory with room for the metadata, on the file system of File

	Snapshot     string // "" is the newest
	Verify       bool   // read back every byte that was written
	AllowDamaged bool   // go on without blobs that the backup has not got whole
	Rate         int64  // bytes per second; 0 is as fast as it goes
	Parallel     int    // blobs that are copied at once; default 8
	Progress     func(Progress)

	Now func() time.Time
	Log *slog.Logger
}

// Restored is the outcome of a restore.
type Restored struct {
	Record *Record
	Copied Amount
	Lost   []DamagedBlob // not in the backup, or not whole there; they wait for a push that repairs them
}

// restoreMark is the note by which a store tells that it is being restored, and from what. With it, an interrupted restore
// goes on.
const restoreMark = "restoring"

// Restore makes a snapshot a registry of its own, in an empty store and an empty database of whatever kinds. The bytes come
// first, each verified; the database is put in its place last, so a restore that was interrupted left nothing that a berthd
// would serve, and the same one again goes on. What uploads, claims, leases and jobs of the old life come to is said at
// metadb.Tx.Revive.
//
// Conflict says what is wrong: a target that is not empty, a snapshot of a newer berth, a backup that is damaged.
func Restore(ctx context.Context, o Restoring) (_ *Restored, err error) {
	o.Parallel = cmp.Or(o.Parallel, 8)
	r := &restoring{o: o, tell: o.Progress, pace: &pace{rate: o.Rate, now: o.Now}}
	if r.record, err = Find(ctx, o.From, o.Snapshot); err != nil {
		return nil, err
	}
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	if r.dir, err = workDir(o.Temp); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.dir)) }()
	if err := r.restore(ctx); err != nil {
		return nil, err
	}
	return &Restored{r.record, r.copied, r.lost}, nil
}

type restoring struct {
	o      Restoring
	record *Record
	notes  blob.NoteKeeper
	pace   *pace
	tell   tell
	dir    string

	mu     sync.Mutex
	done   int64
	copied Amount
	lost   []DamagedBlob
}

// prepare refuses a target that has something, unless it is this restore's own beginning.
func (r *restoring) prepare(ctx context.Context) (err error) {
	if err := requireEmpty(ctx, r.o.File, r.o.Database); err != nil {
		return err
	}
	if r.notes, err = blob.Notes(r.o.To); err != nil {
		return err
	}
	mark, err := r.notes.Note(ctx, restoreMark)
	switch {
	case err == nil && string(mark) == r.record.ID:
		return nil
	case err == nil:
		return fault.New(fault.Conflict, fault.Unknown, "storage holds part of a restore of snapshot %s; go on with --snapshot %s, or empty it", mark, mark)
	case !fault.Is(err, fault.NotFound):
		return err
	}
	err = blob.List(ctx, r.o.To, oci.Digest{}, func(l blob.Listed) error {
		return fault.New(fault.Conflict, fault.Unknown, "storage is not empty: it has blob %s; restore into an empty one", l.Digest)
	})
	if err != nil {
		return err
	}
	return r.notes.PutNote(ctx, restoreMark, []byte(r.record.ID))
}

func (r *restoring) restore(ctx context.Context) error {
	if err := r.complete(ctx); err != nil {
		return err
	}
	file := filepath.Join(r.dir, "berth.db")
	r.tell.say(Progress{Doing: "reading the metadata"})
	if err := r.record.unpack(ctx, r.o.From, file); err != nil {
		return err
	}
	if err := r.fill(ctx, file); err != nil {
		return err
	}
	r.tell.say(Progress{Done: r.done, Total: r.record.Holds.Bytes, Doing: "putting the metadata in its place"})
	if err := putInPlace(ctx, file, r.o.File, r.o.Database, r.o.Log, r.o.Now); err != nil {
		return err
	}
	return r.notes.DeleteNotes(ctx, restoreMark)
}

// complete looks whether the backup has all that the snapshot needs, before hours are spent on copying.
func (r *restoring) complete(ctx context.Context) error {
	missing, err := missing(ctx, r.o.From, r.record)
	if err != nil || len(missing) == 0 || r.o.AllowDamaged {
		return err
	}
	return damagedBackup(r.record, missing)
}

// missing are the blobs of the inventory that the listing of the backup does not show in their size.
func missing(ctx context.Context, from blob.Store, r *Record) (all []DamagedBlob, err error) {
	g, ctx := errgroup.WithContext(ctx)
	have := make(chan blob.Listed, 1000)
	g.Go(func() error {
		defer close(have)
		return blob.List(ctx, from, oci.Digest{}, func(l blob.Listed) error {
			select {
			case have <- l:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
	})
	g.Go(func() error {
		next, more := <-have
		err := r.needs(ctx, from, func(n need) error {
			for more && next.Digest.String() < n.digest.String() {
				next, more = <-have
			}
			switch {
			case !more || next.Digest != n.digest:
				all = append(all, DamagedBlob{n.digest, "its bytes are missing"})
			case next.Size != n.size:
				all = append(all, DamagedBlob{n.digest, fmt.Sprintf("it has %d bytes, not %d", next.Size, n.size)})
			}
			return context.Cause(ctx)
		})
		for range have { // the listing ends by itself
		}
		return err
	})
	return all, g.Wait()
}

// damagedBackup is the refusal of a backup that has not got everything.
func damagedBackup(r *Record, lost []DamagedBlob) error {
	var names []string
	for _, l := range lost[:min(len(lost), 5)] {
		names = append(names, l.Digest.String()+" ("+l.Detail+")")
	}
	if len(lost) > len(names) {
		names = append(names, "…")
	}
	return fault.New(fault.Conflict, fault.Unknown, "backup is damaged: %d blobs of snapshot %s cannot be restored: %s; the next berthd backup --verify into the same target repairs it; "+
		"or restore without them with --allow-damaged", len(lost), r.ID, strings.Join(names, ", "))
}

// unpack writes the metadata to a file.
func (r *Record) unpack(ctx context.Context, from blob.Store, file string) (err error) {
	in, err := r.Metadata.open(ctx, from, "metadata of snapshot "+r.ID)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}

// fill copies the blobs of the metadata in the file, and makes that the beginning of a new life.
func (r *restoring) fill(ctx context.Context, file string) (err error) {
	db, err := metadb.Open(ctx, metadb.Options{Path: file, MaxOpen: 2, Log: r.o.Log, Now: r.o.Now})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := r.blobs(ctx, db); err != nil {
		return err
	}
	slices.SortFunc(r.lost, func(a, b DamagedBlob) int { return strings.Compare(a.Digest.String(), b.Digest.String()) })
	if len(r.lost) > 0 && !r.o.AllowDamaged {
		return damagedBackup(r.record, r.lost)
	}
	return db.Update(ctx, func(tx *metadb.Tx) error {
		if err := tx.Revive(r.record.At); err != nil {
			return err
		}
		for _, l := range r.lost {
			if _, _, err := tx.Quarantine(metadb.Damage{Digest: l.Digest, FoundBy: "restore", Missing: true, Detail: l.Detail}); err != nil {
				return err
			}
		}
		return nil
	})
}

// blobs copies what the target lacks; an interrupted restore has left some.
func (r *restoring) blobs(ctx context.Context, db *metadb.DB) error {
	have := &digests{}
	err := blob.List(ctx, r.o.To, oci.Digest{}, func(l blob.Listed) error { have.add(l.Digest); return nil })
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(r.o.Parallel)
	err = storedBlobs(ctx, db, func(b metadb.StoredBlob) error {
		switch {
		case b.State == metadb.Damaged: // it is not in the backup either
			return nil
		case have.has(b.Digest) && !r.o.Verify:
			r.passed(int(b.Size))
		default:
			g.Go(func() error { return r.blob(ctx, b, have.has(b.Digest)) })
		}
		return context.Cause(ctx)
	})
	return errors.Join(g.Wait(), err)
}

func (r *restoring) passed(n int) {
	r.mu.Lock()
	defer r.mu.Unlock() // also while it is told, so that numbers only grow
	r.done += int64(n)
	r.tell.say(Progress{Done: r.done, Total: r.record.Holds.Bytes, Doing: "copying blobs"})
}

// blob copies one, unless it is there, and reads it back when that is asked.
func (r *restoring) blob(ctx context.Context, b metadb.StoredBlob, there bool) error {
	if !there {
		err := r.copy(ctx, b)
		if detail, ok := lostAs(err); ok {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.lost = append(r.lost, DamagedBlob{b.Digest, detail})
			return nil
		}
		if err != nil {
			return fmt.Errorf("restore: copy %s: %w", b.Digest, err)
		}
		r.mu.Lock()
		r.copied.Blobs++
		r.copied.Bytes += b.Size
		r.mu.Unlock()
	}
	if !r.o.Verify {
		return nil
	}
	if err := readBlob(ctx, r.o.To, b.Digest, b.Size, nil, nil); err != nil {
		return fmt.Errorf("restore: read back %s: %w", b.Digest, err)
	}
	return nil
}

func (r *restoring) copy(ctx context.Context, b metadb.StoredBlob) error {
	c, n, err := r.o.From.Open(ctx, b.Digest)
	if err != nil {
		return err
	}
	defer c.Close()
	if n != b.Size {
		return &blob.WrongError{Digest: b.Digest, Size: b.Size, Read: n}
	}
	return put(ctx, r.o.To, b.Digest, b.Size, &paced{ctx: ctx, r: c, p: r.pace, passed: r.passed})
}

// lostAs says what is wrong with content, when that is what failed.
func lostAs(err error) (detail string, ok bool) {
	var w *blob.WrongError
	switch {
	case errors.As(err, &w):
		return w.Error(), true
	case fault.Has(err, fault.BlobUnknown):
		return "its bytes are missing", true
	}
	return "", false
}

// readBlob reads a blob to its end and verifies it.
func readBlob(ctx context.Context, store blob.Store, d oci.Digest, size int64, p *pace, passed func(int)) error {
	c, n, err := store.Open(ctx, d)
	if err != nil {
		return err
	}
	defer c.Close()
	if n != size {
		return &blob.WrongError{Digest: d, Size: size, Read: n}
	}
	_, err = blob.Send(io.Discard, &paced{ctx: ctx, r: c, p: p, passed: passed}, size, d)
	return err
}

// requireEmpty refuses a database that has something: a file that is there or has left something, or rows when file is "".
func requireEmpty(ctx context.Context, file string, o metadb.Options) error {
	if file != "" {
		if _, err := os.Lstat(file); !errors.Is(err, os.ErrNotExist) {
			return fault.New(fault.Conflict, fault.Unknown, "database %s is there already; choose an empty data directory, or move it and the files beside it away", file)
		}
		left, err := metadb.Beside(file)
		if err == nil && len(left) > 0 {
			err = fault.New(fault.Conflict, fault.Unknown, "files of an earlier database are there, which a new one would be damaged by: %s; move them away", strings.Join(left, ", "))
		}
		return err
	}
	empty, err := metadb.Empty(ctx, o)
	if err == nil && !empty {
		err = fault.New(fault.Conflict, fault.Unknown, "target database is not empty; choose a new one")
	}
	return err
}

// putInPlace makes the metadata in a file what a berthd finds: as the file to, or, when that is "", in a PostgreSQL database.
func putInPlace(ctx context.Context, file, to string, o metadb.Options, log *slog.Logger, now func() time.Time) error {
	if to == "" {
		_, err := metadb.Copy(ctx, metadb.CopyOptions{From: metadb.Options{Path: file, Log: log, Now: now}, To: o})
		return err
	}
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(file, to); err != nil {
		return err
	}
	dir, err := durable.OpenDir(filepath.Dir(to), nil)
	if err != nil {
		return err
	}
	return errors.Join(dir.SyncDir("."), dir.Close())
}

// Check reads every byte of a snapshot and says what is damaged; nothing is written.
func Check(ctx context.Context, from blob.Store, snapshot string, rate int64, now func() time.Time, progress func(Progress)) (_ *Record, lost []DamagedBlob, err error) {
	r, err := Find(ctx, from, snapshot)
	if err != nil {
		return nil, nil, err
	}
	in, err := r.Metadata.open(ctx, from, "metadata of snapshot "+r.ID)
	if err != nil {
		return r, nil, err
	}
	_, err = io.Copy(io.Discard, in)
	if err := errors.Join(err, in.Close()); err != nil {
		return r, nil, err
	}
	var mu sync.Mutex
	done := int64(0)
	passed := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		done += int64(n)
		tell(progress).say(Progress{Done: done, Total: r.Holds.Bytes, Doing: "reading blobs"})
	}
	limit := &pace{rate: rate, now: now}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	err = r.needs(ctx, from, func(n need) error {
		g.Go(func() error {
			err := readBlob(ctx, from, n.digest, n.size, limit, passed)
			if detail, ok := lostAs(err); ok {
				mu.Lock()
				defer mu.Unlock()
				lost = append(lost, DamagedBlob{n.digest, detail})
				return nil
			}
			return err
		})
		return context.Cause(ctx)
	})
	err = errors.Join(g.Wait(), err)
	slices.SortFunc(lost, func(a, b DamagedBlob) int { return strings.Compare(a.Digest.String(), b.Digest.String()) })
	return r, lost, err
}

// Unpack writes the metadata of a snapshot to a file as the beginning of a new life, as Restore does, for who reads the
// content where it is: in the backup.
func Unpack(ctx context.Context, from blob.Store, snapshot, file string, now func() time.Time, log *slog.Logger) (_ *Record, err error) {
	r, err := Find(ctx, from, snapshot)
	if err != nil {
		return nil, err
	}
	if err := r.unpack(ctx, from, file); err != nil {
		return nil, err
	}
	db, err := metadb.Open(ctx, metadb.Options{Path: file, MaxOpen: 2, Log: log, Now: now})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return r, db.Update(ctx, func(tx *metadb.Tx) error { return tx.Revive(r.At) })
}
