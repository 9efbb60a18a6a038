package metadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/berth-registry/berth/fault"
)

// CopyOptions say which database Copy moves where.
type CopyOptions struct {
	From, To Options
	// Resume goes on with a copy that was interrupted.
	Resume bool
	// Live copies a PostgreSQL source although others are connected to it: what they write meanwhile is not copied.
	Live bool
	// Progress is told after each page of a table; nil for nobody.
	Progress func(CopyProgress)

	pageRows int // of a page; 0 is copyPageRows
}

// CopyProgress is how far a copy is.
type CopyProgress struct {
	Verify bool // rows are being compared, not copied
	Table  string
	Rows   int64 // so far
	Total  int64
}

// CopiedTable is a table that is the same in both databases.
type CopiedTable struct {
	Name string
	Rows int64
	Sum  string // SHA-256 over its rows, hexadecimal
}

// copyMark is a table that the target has until the copy is complete and compared. No berthd opens a database with it.
const copyMark = "berth_copy"

// copyLock keeps two copies from one target.
const copyLock = migrationLock + 1

// Copy moves all metadata into an empty database of either kind: rows, inline contents, and which numbers the database
// gives next. It reads one state of the source, table by table in the order of the keys, and writes pages of bounded
// size, so that memory does not depend on what is stored. In the end it reads both again and compares every row.
//
// When it is interrupted the target is left as it is, no berthd takes it, and a Copy with Resume goes on behind the last
// page. What the source says is not changed, but for SQLite what is in the logs beside the file becomes rows of it. Its berthd must be stopped: the caller holds the lock of a SQLite source's data
// directory; a PostgreSQL source with other connections is refused without Live.
//
// Cursors of events keep their meaning. A PostgreSQL server orders events by its transaction numbers first (see
// event.go), which mean nothing elsewhere: events from there are numbered anew in their order, behind every number that was
// ever given, with the epoch 0 that comes before any other; and so are the cursors that are stored.
func Copy(ctx context.Context, o CopyOptions) (tables []CopiedTable, err error) {
	o.From, o.To = o.From.withDefaults(), o.To.withDefaults()
	if o.pageRows == 0 {
		o.pageRows = copyPageRows
	}
	c := &copying{o: o}
	defer func() {
		err = errors.Join(err, c.close())
		if err != nil && ctx.Err() != nil { // the drivers' ways to say so are many
			err = ctx.Err()
		}
	}()
	if err := c.openSource(ctx); err != nil {
		return nil, err
	}
	if err := c.openTarget(ctx); err != nil {
		return nil, err
	}
	for i := range c.tables {
		if err := c.table(ctx, &c.tables[i]); err != nil {
			return nil, err
		}
	}
	if err := c.sequences(ctx); err != nil {
		return nil, err
	}
	for i := range c.tables {
		t, err := c.verify(ctx, &c.tables[i])
		if err != nil {
			return nil, err
		}
		tables = append(tables, t)
	}
	return tables, c.finish(ctx)
}

// copying is a Copy in progress.
type copying struct {
	o        CopyOptions
	from, to *copySide
	tables   []copyTable
	totals   map[string]int64
	events   int64 // the last number that a PostgreSQL source gave to an event
}

func (c *copying) close() error {
	var errs []error
	for _, s := range []*copySide{c.from, c.to} {
		if s != nil {
			errs = append(errs, s.close())
		}
	}
	return errors.Join(errs...)
}

// refuse is a fault that the user can do something about.
func refuse(format string, args ...any) error {
	return fault.New(fault.Conflict, fault.Unknown, format, args...)
}

// openSource looks whether the source can be copied and begins to read its present state.
func (c *copying) openSource(ctx context.Context) error {
	o := c.o.From
	if !o.onPostgres() {
		if _, err := os.Stat(o.file()); errors.Is(err, fs.ErrNotExist) {
			return refuse("source database %s is not there", o.file())
		}
	}
	steps, err := Migrations(ctx, o)
	if err != nil {
		return err
	}
	for _, m := range steps {
		if m.Name == "" {
			return refuse("source database has migration %d, which this berthd does not know; copy it with the berthd that wrote it", m.Version)
		}
		if m.AppliedAt.IsZero() {
			return refuse("source database lacks migration %s; run berthd migrate up on it first", m.file())
		}
	}
	if !o.onPostgres() { // what a berthd that was killed has left in its logs becomes rows
		db, err := Open(ctx, o)
		if err != nil {
			return err
		}
		if err := db.Close(); err != nil {
			return err
		}
	}
	if c.from, err = openSide(ctx, o); err != nil {
		return err
	}
	if c.from.postgres && !c.o.Live {
		if err := c.from.alone(ctx); err != nil {
			return err
		}
	}
	begin := "BEGIN"
	if c.from.postgres {
		begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
	}
	if err := c.from.exec(ctx, begin); err != nil {
		return err
	}
	if c.tables, err = c.from.describe(ctx); err != nil {
		return err
	}
	c.totals = map[string]int64{}
	for _, t := range c.tables {
		if c.totals[t.name], err = c.from.count(ctx, &t); err != nil {
			return err
		}
		if t.name == "event" && c.from.postgres {
			if c.events, err = c.from.sequence(ctx, &t); err != nil {
				return err
			}
		}
	}
	return nil
}

// alone refuses a PostgreSQL database that others are connected to. Connections of a berthd that has just ended take a
// moment to go.
func (s *copySide) alone(ctx context.Context) error {
	for try := 0; ; try++ {
		n, err := s.number(ctx, `SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database()
			AND backend_type = 'client backend' AND pid <> pg_backend_pid()`)
		if err != nil || n == 0 {
			return err
		}
		if try == 10 {
			return refuse("source database is in use by %d other connections; stop every berthd, or copy its present state with --live", n)
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

func (s *copySide) count(ctx context.Context, t *copyTable) (int64, error) {
	return s.number(ctx, "SELECT COUNT(*) FROM "+quote(t.name)+" WHERE "+t.only)
}

// openTarget makes the schema and looks whether the rows may come.
func (c *copying) openTarget(ctx context.Context) (err error) {
	o := c.o.To
	o.copied = true
	if _, err := Migrate(ctx, o); err != nil {
		return err
	}
	if c.to, err = openSide(ctx, o); err != nil {
		return err
	}
	if c.to.postgres {
		if n, err := c.to.number(ctx, `SELECT CASE WHEN pg_try_advisory_lock($1) THEN 1 ELSE 0 END`, int64(copyLock)); err != nil {
			return err
		} else if n == 0 {
			return refuse("target database is being filled by another berthd db copy")
		}
	}
	tables, err := c.to.describe(ctx)
	if err != nil {
		return err
	}
	if c.tables, err = merge(c.tables, tables); err != nil {
		return err
	}
	marked, err := c.to.number(ctx, `SELECT CASE WHEN (`+c.to.dialect().hasTable+`) THEN 1 ELSE 0 END`, copyMark)
	if err != nil {
		return err
	}
	if marked == 1 && !c.o.Resume {
		return refuse("target database holds part of an earlier copy; go on with --resume, or empty it")
	}
	if marked == 1 {
		return nil
	}
	for _, t := range tables {
		n, err := c.to.number(ctx, "SELECT COUNT(*) FROM (SELECT 1 FROM "+quote(t.name)+" WHERE "+t.only+" LIMIT 1) t")
		if err != nil {
			return err
		}
		if n > 0 {
			return refuse("target database is not empty: table %s has rows; give berthd db copy a new database", t.name)
		}
	}
	return c.to.exec(ctx, "CREATE TABLE "+copyMark+" (started_at BIGINT NOT NULL PRIMARY KEY)")
}

// table copies the rows of a table, or those that a copy which was interrupted has left.
func (c *copying) table(ctx context.Context, t *copyTable) error {
	from, err := c.reading(ctx, t)
	if err != nil {
		return err
	}
	if from.alter != nil { // its keys do not tell how far it came
		if err := c.to.exec(ctx, "DELETE FROM "+quote(t.name)); err != nil {
			return err
		}
	} else if from.after, err = c.to.last(ctx, t); err != nil {
		return err
	}
	if from.after != nil {
		if from.rank, err = c.to.count(ctx, t); err != nil {
			return err
		}
	}
	for more := true; more; {
		c.tell(CopyProgress{Table: t.name, Rows: from.rank, Total: c.totals[t.name]})
		if _, more, err = c.to.copyPage(ctx, from); err != nil {
			return err
		}
	}
	c.tell(CopyProgress{Table: t.name, Rows: from.rank, Total: c.totals[t.name]})
	return nil
}

func (c *copying) tell(p CopyProgress) {
	if c.o.Progress != nil {
		c.o.Progress(p)
	}
}

// last is the greatest key of a table; nil for none.
func (s *copySide) last(ctx context.Context, t *copyTable) (key []any, err error) {
	down := make([]string, len(t.key))
	columns := make([]copyColumn, len(t.key))
	for i, name := range t.key {
		down[i] = quote(name) + " DESC"
		columns[i] = t.columns[t.column(name)]
	}
	err = s.rows(ctx, func(rows *sql.Rows) error {
		key, err = scanRow(rows, columns)
		return err
	}, "SELECT "+list(t.key)+" FROM "+quote(t.name)+" WHERE "+t.only+" ORDER BY "+strings.Join(down, ", ")+" LIMIT 1")
	return key, err
}

// reading is a table of the source as the target shall have it.
func (c *copying) reading(ctx context.Context, t *copyTable) (*cursor, error) {
	r := c.from.read(t, c.o.pageRows)
	if !c.from.postgres {
		return r, nil
	}
	if t.name == "event" {
		id, epoch := t.column("id"), t.column("epoch")
		r.order = []string{"epoch", "id"}
		r.alter = func(row []any, rank int64) { row[id], row[epoch] = c.events+rank, int64(0) }
		return r, nil
	}
	columns, ok := cursorColumns()[t.name]
	if !ok {
		return r, nil
	}
	epoch, id := t.column(columns[0]), t.column(columns[1])
	if epoch < 0 || id < 0 {
		return nil, fmt.Errorf("metadb: table %s has no columns %v", t.name, columns)
	}
	ranks, err := c.ranks(ctx, t, columns)
	r.alter = func(row []any, _ int64) {
		row[id] = c.events + ranks[[2]int64{row[epoch].(int64), row[id].(int64)}]
		row[epoch] = int64(0)
	}
	return r, err
}

// cursorColumns are the columns that hold an event.Cursor, its epoch and its id, by table.
func cursorColumns() map[string][2]string {
	return map[string][2]string{"delivery": {"epoch", "event"}}
}

// ranks are the cursors of a table, each with how many events do not lie behind it: the number that the last of them
// gets. There are as many as there are readers of events: few.
func (c *copying) ranks(ctx context.Context, t *copyTable, columns [2]string) (map[[2]int64]int64, error) {
	ranks := map[[2]int64]int64{}
	err := c.from.rows(ctx, func(rows *sql.Rows) error {
		var epoch, id, rank int64
		err := rows.Scan(&epoch, &id, &rank)
		ranks[[2]int64{epoch, id}] = rank
		return err
	}, fmt.Sprintf(`SELECT c.%[1]s, c.%[2]s, (SELECT COUNT(*) FROM event e WHERE (e.epoch, e.id) <= (c.%[1]s, c.%[2]s))
		FROM (SELECT DISTINCT %[1]s, %[2]s FROM %[3]s) c`, quote(columns[0]), quote(columns[1]), quote(t.name)))
	return ranks, err
}

// sequences makes the target give the numbers that the source would have given: never one again that was given before.
func (c *copying) sequences(ctx context.Context) error {
	for _, t := range c.tables {
		if t.identity == "" {
			continue
		}
		last, err := c.from.sequence(ctx, &t)
		if err != nil {
			return err
		}
		highest, err := c.to.number(ctx, "SELECT MAX("+quote(t.identity)+") FROM "+quote(t.name))
		if err != nil {
			return err
		}
		if t.name == "event" && c.from.postgres {
			last = c.events + c.totals[t.name] // numbered anew
		}
		if err := c.to.setSequence(ctx, &t, max(last, highest)); err != nil {
			return err
		}
	}
	return nil
}

// sequence is the last number that a table's identity gave.
func (s *copySide) sequence(ctx context.Context, t *copyTable) (int64, error) {
	if !s.postgres {
		return s.number(ctx, `SELECT MAX(seq) FROM sqlite_sequence WHERE name = $1`, t.name)
	}
	return s.number(ctx, `SELECT COALESCE(pg_sequence_last_value(pg_get_serial_sequence($1, $2)::regclass), 0)`, quote(t.name), t.identity)
}

func (s *copySide) setSequence(ctx context.Context, t *copyTable, last int64) error {
	if last == 0 {
		return nil
	}
	if s.postgres {
		return s.exec(ctx, `SELECT setval(pg_get_serial_sequence($1, $2)::regclass, $3)`, quote(t.name), t.identity, last)
	}
	if err := s.exec(ctx, `DELETE FROM sqlite_sequence WHERE name = $1`, t.name); err != nil {
		return err
	}
	return s.exec(ctx, `INSERT INTO sqlite_sequence (name, seq) VALUES ($1, $2)`, t.name, last)
}

// verify reads a table from both databases and compares every row.
func (c *copying) verify(ctx context.Context, t *copyTable) (CopiedTable, error) {
	from, err := c.reading(ctx, t)
	if err != nil {
		return CopiedTable{}, err
	}
	want, got := newSum(), newSum()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		err := c.to.read(t, c.o.pageRows).sum(ctx, got, nil)
		if err != nil {
			cancel()
		}
		done <- err
	}()
	err = from.sum(ctx, want, func(rows int64) {
		c.tell(CopyProgress{Verify: true, Table: t.name, Rows: rows, Total: c.totals[t.name]})
	})
	if err != nil {
		cancel()
	}
	if err2 := <-done; err2 != nil && (err == nil || errors.Is(err, context.Canceled)) {
		err = err2
	}
	if err != nil {
		return CopiedTable{}, fmt.Errorf("metadb: compare table %s: %w", t.name, err)
	}
	if want.String() != got.String() {
		return CopiedTable{}, refuse("table %s differs: the source has %d rows (%.16s), the target %d (%.16s); the source was changed since the copy began: empty the target and copy again",
			t.name, want.rows, want, got.rows, got)
	}
	return CopiedTable{t.name, want.rows, want.String()}, nil
}

// sum adds all rows to a sum.
func (c *cursor) sum(ctx context.Context, s *sum, tell func(rows int64)) error {
	for more := true; more; {
		var err error
		if _, more, err = c.page(ctx, func(row []any) (bool, error) { s.add(row); return false, nil }); err != nil {
			return err
		}
		if tell != nil {
			tell(s.rows)
		}
	}
	return nil
}

// finish makes the target a database that berthd opens.
func (c *copying) finish(ctx context.Context) error {
	if c.to.postgres { // plans and index-only reads are good from the first request on
		for _, t := range c.tables {
			if err := c.to.exec(ctx, "VACUUM (ANALYZE) "+quote(t.name)); err != nil {
				return err
			}
		}
	} else if err := c.to.exec(ctx, "PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		return err
	}
	return c.to.exec(ctx, "DROP TABLE "+copyMark)
}

// unfinished is the refusal to open a database with the copy's mark.
func unfinished() error {
	return fault.New(fault.Unavailable, fault.UnavailableReason,
		"metadata database holds part of a copy that was not completed; run berthd db copy --resume with the same databases")
}
