package metadb

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"modernc.org/sqlite"
)

// copySide is one of the two databases of a Copy: a connection of its own, beside everything that metadb does for a
// server, because a copy is one long reading and one long writing.
type copySide struct {
	postgres bool
	db       *sql.DB
	conn     *sql.Conn
}

// copyPragmas are those of a database that is written in bulk: SQLite copies its log by itself, and remembers more.
const copyPragmas = "_pragma=busy_timeout(5000)&_pragma=foreign_keys(1)&_pragma=synchronous(FULL)&_pragma=cache_size(-32768)&_pragma=wal_autocheckpoint(4096)"

func openSide(ctx context.Context, o Options) (*copySide, error) {
	s := &copySide{postgres: o.onPostgres()}
	if s.postgres {
		cfg, err := parsePostgres(o.URL)
		if err != nil {
			return nil, err
		}
		s.db = stdlib.OpenDB(*cfg)
	} else {
		path, err := filepath.Abs(o.file())
		if err != nil {
			return nil, err
		}
		connector, err := sqlite.NewConnector("file:" + (&url.URL{Path: path}).EscapedPath() + "?mode=rw&" + copyPragmas)
		if err != nil {
			return nil, fmt.Errorf("metadb: open: %w", err)
		}
		s.db = sql.OpenDB(connector)
	}
	var err error
	if s.conn, err = s.db.Conn(ctx); err != nil {
		return nil, s.fail(errors.Join(err, s.db.Close()))
	}
	return s, nil
}

func (s *copySide) close() error { return errors.Join(s.conn.Close(), s.db.Close()) }

func (s *copySide) dialect() *dialect {
	if s.postgres {
		return postgresDialect()
	}
	return sqliteDialect()
}

func (s *copySide) fail(err error) error { return s.dialect().fail(err) }

func (s *copySide) exec(ctx context.Context, query string, args ...any) error {
	_, err := s.conn.ExecContext(ctx, query, args...)
	return s.fail(err)
}

func (s *copySide) rows(ctx context.Context, each func(*sql.Rows) error, query string, args ...any) error {
	rows, err := s.conn.QueryContext(ctx, query, args...)
	if err != nil {
		return s.fail(err)
	}
	return s.fail(collect(rows, each))
}

// number is the answer to a question for one integer; no row is 0.
func (s *copySide) number(ctx context.Context, query string, args ...any) (n int64, err error) {
	err = s.rows(ctx, func(rows *sql.Rows) error {
		var v sql.NullInt64
		err := rows.Scan(&v)
		n = v.Int64
		return err
	}, query, args...)
	return n, err
}

// copyPage bounds a transaction of the target, in rows and in bytes.
const (
	copyPageRows  = 50_000
	copyPageBytes = 32 << 20
)

// cursor reads a table in the order of its key, row by row, page by page.
type cursor struct {
	s     *copySide
	t     *copyTable
	limit int   // rows of a page
	after []any // the key behind which it goes on; nil for the beginning
	rank  int64 // of the last row, counted from where it began
	alter func(row []any, rank int64)
	order []string
}

func (s *copySide) read(t *copyTable, limit int) *cursor {
	return &cursor{s: s, t: t, order: t.key, limit: limit}
}

// page calls each for the next rows, and reports how many there were; fewer than limit are the last. A row is only good
// until each returns. stop ends the page early.
func (c *cursor) page(ctx context.Context, each func(row []any) (stop bool, err error)) (n int, more bool, err error) {
	text := "SELECT " + list(names(c.t.columns)) + " FROM " + quote(c.t.name) + " WHERE " + c.t.only
	if c.after != nil {
		marks := make([]string, len(c.after))
		for i := range marks {
			marks[i] = "$" + strconv.Itoa(i+1)
		}
		text += " AND (" + list(c.order) + ") > (" + strings.Join(marks, ", ") + ")"
	}
	text += " ORDER BY " + list(c.order) + " LIMIT " + strconv.Itoa(c.limit)
	rows, err := c.s.conn.QueryContext(ctx, text, c.after...)
	if err != nil {
		return 0, false, c.s.fail(err)
	}
	defer rows.Close()
	for rows.Next() {
		row, err := scanRow(rows, c.t.columns)
		if err != nil {
			return n, false, fmt.Errorf("metadb: read table %s: %w", c.t.name, err)
		}
		c.after = c.key(row)
		c.rank++
		n++
		if c.alter != nil {
			c.alter(row, c.rank)
		}
		if stop, err := each(row); err != nil || stop {
			return n, true, err
		}
	}
	return n, n == c.limit, c.s.fail(rows.Err())
}

func (c *cursor) key(row []any) []any {
	key := make([]any, len(c.order))
	for i, name := range c.order {
		key[i] = row[c.t.column(name)]
	}
	return key
}

func (t *copyTable) column(name string) int {
	for i, c := range t.columns {
		if c.name == name {
			return i
		}
	}
	return -1
}

func scanRow(rows *sql.Rows, columns []copyColumn) ([]any, error) {
	row := make([]any, len(columns))
	for i, c := range columns {
		switch c.kind {
		case textColumn:
			row[i] = new(sql.NullString)
		case bytesColumn:
			row[i] = new([]byte)
		case intColumn:
			row[i] = new(sql.NullInt64)
		case boolColumn:
			row[i] = new(sql.NullBool)
		}
	}
	if err := rows.Scan(row...); err != nil {
		return nil, err
	}
	for i, c := range columns {
		row[i] = plain(row[i], c.null)
	}
	return row, nil
}

// plain is a scanned column as the drivers take it.
func plain(v any, null bool) any {
	switch v := v.(type) {
	case *sql.NullString:
		if v.Valid {
			return v.String
		}
	case *sql.NullInt64:
		if v.Valid {
			return v.Int64
		}
	case *sql.NullBool:
		if v.Valid {
			return v.Bool
		}
	case *[]byte:
		switch { // not every driver tells an empty value from none
		case len(*v) > 0:
			return *v
		case !null:
			return []byte{}
		}
	}
	return nil
}

// copyPage moves the next page to the target, in one transaction of that.
func (s *copySide) copyPage(ctx context.Context, c *cursor) (n int, more bool, err error) {
	if err := s.exec(ctx, "BEGIN"); err != nil {
		return 0, false, err
	}
	if s.postgres {
		n, more, err = s.copyIn(ctx, c)
	} else {
		n, more, err = s.insert(ctx, c)
	}
	if err != nil {
		_, _ = s.conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		return n, false, fmt.Errorf("metadb: copy table %s: %w", c.t.name, err)
	}
	return n, more, s.exec(ctx, "COMMIT")
}

// insert writes a page to SQLite.
func (s *copySide) insert(ctx context.Context, c *cursor) (n int, more bool, err error) {
	marks := strings.TrimSuffix(strings.Repeat("?, ", len(c.t.columns)), ", ")
	stmt, err := s.conn.PrepareContext(ctx, "INSERT INTO "+quote(c.t.name)+" ("+list(names(c.t.columns))+") VALUES ("+marks+")") //nolint:sqlclosecheck // the next lines do
	if err != nil {
		return 0, false, s.fail(err)
	}
	defer stmt.Close()
	bytes := 0
	return c.page(ctx, func(row []any) (bool, error) {
		bytes += size(row)
		_, err := stmt.ExecContext(ctx, row...)
		return bytes >= copyPageBytes, s.fail(err)
	})
}

// copyIn writes a page to PostgreSQL with COPY.
func (s *copySide) copyIn(ctx context.Context, c *cursor) (n int, more bool, err error) {
	rows := make(chan []any, 256)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		bytes := 0
		var err error
		n, more, err = c.page(ctx, func(row []any) (bool, error) {
			bytes += size(row)
			select {
			case rows <- row:
			case <-ctx.Done():
				return true, ctx.Err()
			}
			return bytes >= copyPageBytes, nil
		})
		done <- err
		close(rows)
	}()
	err = s.conn.Raw(func(dc any) error {
		_, err := dc.(*stdlib.Conn).Conn().CopyFrom(ctx, pgx.Identifier{c.t.name}, names(c.t.columns), pgx.CopyFromFunc(func() ([]any, error) {
			row, ok := <-rows
			if !ok {
				err := <-done
				done <- err
				return nil, err // of the reading, or the end
			}
			return row, nil
		}))
		return err
	})
	cancel()
	for range rows { // the reading ends before its connection is used again
	}
	readErr := <-done
	if err == nil || readErr != nil && !errors.Is(readErr, context.Canceled) {
		err = readErr
	}
	return n, more, s.fail(err)
}

// sum hashes the rows of a table in their order, so that two databases can be compared.
type sum struct {
	hash hash.Hash
	rows int64
	buf  []byte
}

func newSum() *sum { return &sum{hash: sha256.New()} }

func (s *sum) add(row []any) {
	b := s.buf[:0]
	for _, v := range row {
		switch v := v.(type) {
		case nil:
			b = append(b, 0)
		case string:
			b = append(binary.AppendUvarint(append(b, 1), uint64(len(v))), v...)
		case []byte:
			b = append(binary.AppendUvarint(append(b, 2), uint64(len(v))), v...)
		case int64:
			b = binary.AppendVarint(append(b, 3), v)
		case bool:
			b = append(b, 4)
			if v {
				b = append(b, 1)
			} else {
				b = append(b, 0)
			}
		}
	}
	s.hash.Write(b)
	s.buf = b
	s.rows++
}

func (s *sum) String() string { return hex.EncodeToString(s.hash.Sum(nil)) }

func size(row []any) int {
	n := 8 * len(row)
	for _, v := range row {
		switch v := v.(type) {
		case string:
			n += len(v)
		case []byte:
			n += len(v)
		}
	}
	return n
}

func names(columns []copyColumn) []string {
	all := make([]string, len(columns))
	for i, c := range columns {
		all[i] = c.name
	}
	return all
}

func list(names []string) string {
	all := make([]string, len(names))
	for i, n := range names {
		all[i] = quote(n)
	}
	return strings.Join(all, ", ")
}

// quote makes an identifier of a name. `key` and `order` are columns one may want.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
