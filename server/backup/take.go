package backup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/job"
	"github.com/berth-registry/berth/server/metadb"
)

// Run makes a snapshot in a target and returns its record. The registry serves on meanwhile, and collection deletes nothing.
// When it is killed or fails, the target has what it copied, for the next run, and no snapshot more. Blobs that the
// registry itself has not got whole are named in the record; the snapshot is complete without them.
//
// Conflict says that another run is at work.
func (s *Service) Run(ctx context.Context, ask Ask, progress func(Progress)) (_ *Record, err error) {
	if err := s.o.Access.CheckSystem(ctx, identity.BackupWrite); err != nil {
		return nil, err
	}
	store, stop, err := s.o.Open(ctx, ask.Target, true)
	if err != nil {
		return nil, err
	}
	defer func() { err = closing(err, stop) }()
	began := s.o.Now()
	id := began.UTC().Format("20060102t150405.000000z") + "-" + word()[:6]
	held, r, err := s.begin(ctx, store, id, true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.end(ctx)) }()
	t := &taking{s: s, store: store, verify: ask.Verify, pace: &pace{rate: ask.Rate, now: s.o.Now}, tell: progress, record: Record{
		Format: recordFormat, ID: id, Source: r.source, Berth: s.o.Version, Database: s.o.Database, Complete: true,
	}}
	if err := t.take(held, r); err != nil {
		if cause := context.Cause(held); cause != nil && ctx.Err() == nil {
			err = cause
		}
		return nil, err
	}
	if ask.Keep > 0 {
		if _, err := s.prune(held, store, r, ask.Keep, progress); err != nil {
			return &t.record, fmt.Errorf("snapshot %s is complete, but older ones could not be removed: %w", id, err)
		}
	}
	return &t.record, nil
}

// taking is a snapshot in the making.
type taking struct {
	s      *Service
	store  blob.Store
	verify bool
	pace   *pace
	tell   tell
	record Record
	dir    string // of temporary files
	late   bool   // the target may list what it has not got any more

	mu      sync.Mutex
	done    int64 // bytes
	damaged map[oci.Digest]string
}

func (t *taking) take(ctx context.Context, r *run) (err error) {
	began := t.s.o.Now()
	if err := abandoned(ctx, t.store, began); err != nil {
		return err
	}
	if t.dir, err = workDir(t.s.o.Temp); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(t.dir)) }()
	if t.late, err = justSwept(ctx, r.notes, began); err != nil {
		return err
	}
	t.tell.say(Progress{Doing: "reading the metadata"})
	t.record.At = t.s.o.Now().UTC()
	file := filepath.Join(t.dir, "berth.db")
	if err := t.s.o.DB.Snapshot(ctx, file); err != nil {
		return err
	}
	if err := t.content(ctx, file); err != nil {
		return err
	}
	if t.record.Metadata, err = send(ctx, t.store, file); err != nil {
		return err
	}
	if t.record.Needs, err = send(ctx, t.store, t.inventory()); err != nil {
		return err
	}
	t.record.Seconds = t.s.o.Now().Sub(began).Seconds()
	if err := context.Cause(ctx); err != nil { // collection must have been held until now
		return err
	}
	if err := r.announce(ctx, t.record.ID); err != nil {
		return err
	}
	return t.record.write(ctx, r.notes)
}

func (t *taking) inventory() string { return filepath.Join(t.dir, "inventory") }

// workDir makes a directory for temporary files, and removes those of runs that were killed: there is one run at a time.
func workDir(temp string) (string, error) {
	old, err := filepath.Glob(filepath.Join(temp, "backup-*.tmp"))
	if err != nil {
		return "", err
	}
	for _, dir := range old {
		if err := os.RemoveAll(dir); err != nil {
			return "", err
		}
	}
	return os.MkdirTemp(temp, "backup-*.tmp")
}

// content copies what the metadata in the file names, and writes down what the target has then.
func (t *taking) content(ctx context.Context, file string) (err error) {
	db, err := metadb.Open(ctx, metadb.Options{Path: file, MaxOpen: 2, Manual: true, Log: t.s.o.Log, Now: t.s.o.Now})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if t.record.Schema, err = metadb.Schema(); err != nil {
		return err
	}
	if t.record.Holds, err = db.Census(ctx); err != nil {
		return err
	}
	t.damaged = map[oci.Digest]string{}
	if err := t.blobs(ctx, db); err != nil {
		return err
	}
	if err := t.writeInventory(ctx, db); err != nil {
		return err
	}
	return t.quarantine(ctx, db)
}

// blobs copies what the target lacks. Both sides come in the order of the digests, so neither is held in memory.
func (t *taking) blobs(ctx context.Context, db *metadb.DB) error {
	g, ctx := errgroup.WithContext(ctx)
	have := make(chan blob.Listed, 1000)
	g.Go(func() error {
		defer close(have)
		return blob.List(ctx, t.store, oci.Digest{}, func(l blob.Listed) error {
			select {
			case have <- l:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
	})
	g.Go(func() error {
		copies, ctx := errgroup.WithContext(ctx)
		copies.SetLimit(t.s.o.Parallel)
		next, more := <-have
		err := storedBlobs(ctx, db, func(b metadb.StoredBlob) error {
			for more && next.Digest.String() < b.Digest.String() {
				next, more = <-have
			}
			switch {
			case b.State == metadb.Damaged:
				t.lose(b, "it was damaged before")
			case more && next.Digest == b.Digest && next.Size == b.Size && t.late && !t.verify:
				copies.Go(func() error { return t.find(ctx, b) })
			case more && next.Digest == b.Digest && next.Size == b.Size && !t.verify:
				t.passed(int(b.Size))
			case more && next.Digest == b.Digest && next.Size == b.Size:
				copies.Go(func() error { return t.check(ctx, b) })
			default:
				copies.Go(func() error { return t.copy(ctx, b) })
			}
			return context.Cause(ctx)
		})
		err = errors.Join(copies.Wait(), err)
		for range have { // the listing ends by itself
		}
		return err
	})
	return g.Wait()
}

// storedBlobs calls each for every blob of the store, in the order of their digests.
func storedBlobs(ctx context.Context, db *metadb.DB, each func(metadb.StoredBlob) error) error {
	const page = 1000
	after := oci.Digest{}
	for {
		all, err := db.StoredBlobs(ctx, after, page)
		if err != nil {
			return err
		}
		for _, b := range all {
			if err := each(b); err != nil {
				return err
			}
			after = b.Digest
		}
		if len(all) < page {
			return nil
		}
	}
}

func (t *taking) passed(n int) {
	t.mu.Lock()
	defer t.mu.Unlock() // also while it is told, so that numbers only grow
	t.done += int64(n)
	t.tell.say(Progress{Done: t.done, Total: t.record.Holds.Bytes, Doing: "copying blobs"})
}

func (t *taking) lose(b metadb.StoredBlob, detail string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.damaged[b.Digest] = detail
	if len(t.record.Damage) < maxNamed {
		t.record.Damage = append(t.record.Damage, DamagedBlob{b.Digest, detail})
	}
	t.record.Damaged++
	t.s.o.Log.Error("blob is damaged and not in the backup", "digest", b.Digest.String(), "found", detail)
}

// find asks for a blob that the target lists, and copies it when it is not there.
func (t *taking) find(ctx context.Context, b metadb.StoredBlob) error {
	c, n, err := t.store.Open(ctx, b.Digest)
	switch {
	case fault.Has(err, fault.BlobUnknown):
		return t.copy(ctx, b)
	case err != nil:
		return err
	}
	if err := c.Close(); err != nil {
		return err
	}
	if n != b.Size {
		return t.copy(ctx, b)
	}
	t.passed(int(b.Size))
	return nil
}

// check reads a blob that the target has, and copies it again when it is not right.
func (t *taking) check(ctx context.Context, b metadb.StoredBlob) error {
	err := readBlob(ctx, t.store, b.Digest, b.Size, t.pace, t.passed)
	if _, lost := lostAs(err); !lost {
		return err
	}
	t.s.o.Log.Error("blob is damaged in the backup and is copied again", "digest", b.Digest.String(), "found", err.Error())
	return t.copy(ctx, b)
}

// copy copies a blob. It may have been moved in the store since the snapshot, so one that is not found is looked up as it
// is now.
func (t *taking) copy(ctx context.Context, b metadb.StoredBlob) error {
	for first := true; ; first = false {
		err := t.copyFrom(ctx, b)
		if err == nil {
			t.mu.Lock()
			t.record.Copied.Blobs++
			t.record.Copied.Bytes += b.Size
			t.mu.Unlock()
			return nil
		}
		gone := fault.Has(err, fault.BlobUnknown)
		if !gone && !wrong(err) {
			return fmt.Errorf("backup: copy %s: %w", b.Digest, err)
		}
		now, lookErr := t.s.o.DB.StoredBlob(ctx, b.Digest)
		if first && lookErr == nil && now.Size == b.Size {
			b = now
			continue
		}
		if lookErr != nil && !errors.Is(lookErr, metadb.ErrNotFound) {
			return lookErr
		}
		detail := "its bytes are missing"
		if w := (*blob.WrongError)(nil); errors.As(err, &w) {
			detail = w.Error()
		}
		t.lose(b, detail)
		return nil
	}
}

func (t *taking) copyFrom(ctx context.Context, b metadb.StoredBlob) error {
	c, n, err := blob.OpenAt(ctx, t.s.o.Blobs, b.Place, b.Digest)
	if err != nil {
		return err
	}
	defer c.Close()
	if n != b.Size {
		return &blob.WrongError{Digest: b.Digest, Size: b.Size, Read: n}
	}
	return put(ctx, t.store, b.Digest, b.Size, &paced{ctx: ctx, r: c, p: t.pace, passed: t.passed})
}

// writeInventory writes down which blobs the snapshot needs.
func (t *taking) writeInventory(ctx context.Context, db *metadb.DB) (err error) {
	f, err := os.OpenFile(t.inventory(), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriter(f)
	err = storedBlobs(ctx, db, func(b metadb.StoredBlob) error {
		if _, lost := t.damaged[b.Digest]; lost {
			return nil
		}
		_, err := fmt.Fprintf(w, "%s %d\n", b.Digest, b.Size)
		return err
	})
	return errors.Join(err, w.Flush())
}

// quarantine has the snapshot say of what is damaged that it is, so that who restores it does not promise it to anybody.
func (t *taking) quarantine(ctx context.Context, db *metadb.DB) error {
	if len(t.damaged) == 0 {
		return nil
	}
	return db.Update(ctx, func(tx *metadb.Tx) error {
		for d, detail := range t.damaged {
			if _, _, err := tx.Quarantine(metadb.Damage{Digest: d, FoundBy: "backup", Detail: detail}); err != nil {
				return err
			}
		}
		return nil
	})
}

// Handle makes backups a kind of job, and schedules them when spec is not "" (see job.Every). Call it before the jobs run.
func (s *Service) Handle(jobs *job.Service, spec string, ask Ask) (err error) {
	s.queue, err = job.Handle(jobs, job.Kind{Name: "backup", Everywhere: 1, MaxAttempts: 5, FirstPause: 15 * time.Second}, s.work)
	if err != nil || spec == "" {
		return err
	}
	return job.Every(s.queue, "backup", spec, ask)
}

// work is the job. What it did is its last note.
func (s *Service) work(ctx context.Context, w *job.Work, ask Ask) error {
	ctx = identity.With(ctx, identity.Principal{Kind: identity.System})
	r, err := s.Run(ctx, ask, func(p Progress) { w.Progress(p.Done, p.Total, p.Doing) })
	if r != nil {
		w.Progress(r.Holds.Bytes, r.Holds.Bytes, r.Summary())
		s.o.Log.Info("backup complete", "snapshot", r.ID, "blobs", r.Holds.Blobs, "copied", r.Copied.Blobs, "bytes", r.Copied.Bytes, "damaged", r.Damaged)
	}
	if refused := (*blob.RefusedError)(nil); errors.As(err, &refused) {
		err = fault.New(fault.Invalid, fault.Unknown, "backup to %s is refused: %s", ask.Target, refused.Advice).Because(err)
	}
	if fault.Is(err, fault.Invalid) { // a target that cannot be one is none in a minute, either
		return job.Permanent(err)
	}
	return err
}

// Start queues a backup and returns the number of its job.
func (s *Service) Start(ctx context.Context, ask Ask) (id int64, err error) {
	if err := s.o.Access.CheckSystem(ctx, identity.BackupWrite); err != nil {
		return 0, err
	}
	if strings.TrimSpace(ask.Target) == "" {
		return 0, fault.New(fault.Invalid, fault.Unknown, "backup needs a target: a directory, or s3://BUCKET/PREFIX")
	}
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		id, err = s.queue.Enqueue(tx, ask, job.Ask{Key: ask.Target, NotAgain: true})
		return err
	})
	return id, err
}

// Summary is what the snapshot is, for people.
func (r *Record) Summary() string {
	text := fmt.Sprintf("snapshot %s: %d repositories, %d tags, %s; copied %s", r.ID, r.Holds.Repositories, r.Holds.Tags, Amount{r.Holds.Blobs, r.Holds.Bytes}, r.Copied)
	if r.Damaged > 0 {
		text += fmt.Sprintf("; %d damaged blobs are not in it, the first %s", r.Damaged, r.Damage[0].Digest)
	}
	return text
}
