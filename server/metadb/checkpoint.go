package metadb

import (
	"context"
	"database/sql"
	"log/slog"
	"sync/atomic"
	"time"
)

// checkpointer copies SQLite's log into the database on a connection of its own, so that no commit waits for it. Alone
// it would never finish while others keep writing, and the log would grow for ever: when it is long, the writer copies
// the short rest between two batches, after which the log begins anew.
type checkpointer struct {
	conn   *conn
	writer *writer
	poison *atomic.Pointer[error]
	log    *slog.Logger
	now    func() time.Time
	quit   chan struct{}
	done   chan struct{}
}

// The lengths of the log, in pages, at which the writer helps: with what readers allow, and by waiting for readers too.
const (
	longLog    = 8192  // 32 MiB
	longestLog = 24576 // 96 MiB
)

func newCheckpointer(c *conn, w *writer, poison *atomic.Pointer[error], o Options) *checkpointer {
	k := &checkpointer{conn: c, writer: w, poison: poison, log: o.Log, now: o.Now, quit: make(chan struct{}), done: make(chan struct{})}
	go k.loop()
	return k
}

func (k *checkpointer) loop() {
	defer close(k.done)
	defer k.conn.close()
	for {
		select {
		case <-k.quit:
			return
		case <-k.writer.written:
		}
		if k.poison.Load() != nil {
			return
		}
		length := k.run(k.conn, "PRAGMA wal_checkpoint(PASSIVE)")
		switch {
		case length > longestLog:
			k.writer.chore(func(c *conn) {
				k.pragma(c, "PRAGMA busy_timeout=100")
				k.run(c, "PRAGMA wal_checkpoint(TRUNCATE)")
				k.pragma(c, "PRAGMA busy_timeout=5000")
			})
		case length > longLog:
			k.writer.chore(func(c *conn) { k.run(c, "PRAGMA wal_checkpoint(PASSIVE)") })
		}
	}
}

// run does a checkpoint and returns how many pages the log has. It is not prepared: checkpoints are rare.
func (k *checkpointer) run(c *conn, pragma string) int {
	var busy, length, copied int
	err := c.c.QueryRowContext(context.Background(), pragma).Scan(&busy, &length, &copied)
	switch d := k.writer.d; {
	case err == nil:
		return length
	case d.classify(err) == classSyncFailed:
		_ = poisonWith(k.poison, k.log, k.now(), err)
	case d.classify(err) != classUnavailable: // busy: the next one will do
		k.log.Warn("metadata log could not be copied into the database; it will be tried again", "err", err)
	}
	return 0
}

func (k *checkpointer) pragma(c *conn, text string) {
	rows, err := c.c.QueryContext(context.Background(), text)
	if err == nil {
		err = collect(rows, func(*sql.Rows) error { return nil })
	}
	if err != nil {
		k.log.Warn("metadata connection could not be set", "pragma", text, "err", err)
	}
}

func (k *checkpointer) close() {
	close(k.quit)
	<-k.done
}
