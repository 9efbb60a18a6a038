package metadb

import (
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/berth-registry/berth/internal/durable"
)

// syncer makes what was committed durable, and answers those who wait for it. It syncs SQLite's log by a descriptor of
// its own: a sync is about the file, whoever wrote to it. (Only the database file itself must not be opened a second
// time: closing that would drop SQLite's locks.) The log is one sequence, so a sync covers every commit before it.
type syncer struct {
	path   string
	file   *os.File // opened by the first sync: SQLite makes the log with its first commit
	free   chan struct{}
	poison *atomic.Pointer[error]
	log    *slog.Logger
	now    func() time.Time
	intake *intake
	upto   uint64 // of the intake, in what is committed; whoever holds the syncer has it
}

func newSyncer(wal string, poison *atomic.Pointer[error], in *intake, o Options) *syncer {
	s := &syncer{path: wal, free: make(chan struct{}, 1), poison: poison, log: o.Log, now: o.Now, intake: in}
	s.free <- struct{}{}
	return s
}

// hold waits until no sync is in progress and claims the syncer; finish or release gives it back.
func (s *syncer) hold() { <-s.free }

// holdOr is hold, unless other is ready first; it says whether it holds.
func (s *syncer) holdOr(other <-chan struct{}) bool {
	select {
	case <-s.free:
		return true
	default:
	}
	select {
	case <-s.free:
		return true
	case <-other:
		return false
	}
}

// covers says up to which entry of the intake the commits before the next sync have rows.
func (s *syncer) covers(upto uint64) { s.upto = max(s.upto, upto) }

func (s *syncer) release() { s.free <- struct{}{} }

// finish makes a committed batch durable and answers it; the syncer is held, and free when the answers are given.
// Requests that do not wait for the disk are answered before.
func (s *syncer) finish(batch []*request) {
	durable := batch[:0]
	for _, r := range batch {
		if r.soft || r.err != nil {
			r.answer(nil, s.log)
		} else {
			durable = append(durable, r)
		}
	}
	if len(durable) == 0 {
		s.release()
		return
	}
	err := s.sync()
	if err == nil {
		s.intake.synced(s.upto)
	} else {
		err = poisonWith(s.poison, s.log, s.now(), err)
	}
	s.release()
	for _, r := range durable {
		if err != nil {
			runHooks(r.hooks, s.log) // it is committed, if not durable: nothing remembered may say otherwise
		}
		r.answer(err, s.log)
	}
}

// sync makes the log durable; the first time its name, too.
func (s *syncer) sync() error {
	if s.file == nil {
		f, err := os.Open(s.path)
		if err != nil {
			return err
		}
		s.file = f
		dir, err := os.Open(filepath.Dir(s.path))
		if err != nil {
			return err
		}
		defer dir.Close()
		if err := dir.Sync(); err != nil {
			return err
		}
	}
	return durable.SyncData(s.file)
}

// close waits for the last sync.
func (s *syncer) close() {
	s.hold()
	if s.file != nil {
		_ = s.file.Close()
	}
}
