package metadb

import (
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// syncer makes what was committed durable, and answers those who wait for it. It syncs SQLite's log by a descriptor of
// its own: a sync is about the file, whoever wrote to it. (Only the database file itself must not be opened a second
// time: closing that would drop SQLite's locks.) The log is one sequence, so a sync covers every commit before it.
type syncer struct {
	path   string
	file   *os.File // opened by the first sync: SQLite makes the log with its first commit
	free   chan struct{}
	work   chan []*request
	done   chan struct{}
	poison *atomic.Pointer[error]
	log    *slog.Logger
	now    func() time.Time
}

func newSyncer(wal string, poison *atomic.Pointer[error], o Options) *syncer {
	s := &syncer{
		path: wal, free: make(chan struct{}, 1), work: make(chan []*request, 1), done: make(chan struct{}),
		poison: poison, log: o.Log, now: o.Now,
	}
	s.free <- struct{}{}
	go s.loop()
	return s
}

// hold waits until no sync is in progress and claims the syncer; hand or release gives it back.
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

func (s *syncer) release() { s.free <- struct{}{} }

// hand gives a committed batch to the syncer, which is held. Requests that do not wait for the disk are answered at
// once.
func (s *syncer) hand(batch []*request) {
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
	s.work <- durable
}

func (s *syncer) loop() {
	defer close(s.done)
	for batch := range s.work {
		err := s.sync()
		if err != nil {
			err = poisonWith(s.poison, s.log, s.now(), err)
		}
		s.release()
		for _, r := range batch {
			if err != nil {
				runHooks(r.hooks, s.log) // it is committed, if not durable: nothing remembered may say otherwise
			}
			r.answer(err, s.log)
		}
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
	return s.file.Sync()
}

// close waits for the last sync.
func (s *syncer) close() {
	s.hold()
	close(s.work)
	<-s.done
	if s.file != nil {
		_ = s.file.Close()
	}
}
