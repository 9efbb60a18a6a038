package metadb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/berth-registry/berth/fault"
)

var (
	// ErrNotFound says that no row has this key. What that means to a user (BLOB_UNKNOWN, NAME_UNKNOWN …) is known to
	// the engine that asked.
	ErrNotFound = errors.New("metadb: no such row")

	// ErrClaimed says that the blob is being deleted at this moment. It is over within seconds: try the whole
	// operation again, beginning with the bytes, which will be gone.
	ErrClaimed = errors.New("metadb: the blob is claimed for deletion")

	// ErrChanged says that a row is not any more what the caller read: its generation is another one. Generations begin with
	// the microsecond in which a row was made, so that one that is made again under a name has none of those before.
	ErrChanged = errors.New("metadb: the row has changed meanwhile")
)

// fail turns a driver's error into what a caller can act upon.
func (d *dialect) fail(err error) error {
	if named := (*fault.Error)(nil); err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &named) {
		return err
	}
	switch d.classify(err) {
	case classUnique:
		return fault.New(fault.Conflict, fault.Unknown, "the name is already in use").Because(err)
	case classForeign:
		return fault.New(fault.Conflict, fault.Unknown, "what the request refers to was changed by another request meanwhile; try again").Because(err)
	case classFull:
		return fault.New(fault.Full, fault.StorageFull, "storage is full; delete images or add space").Because(err)
	case classUnavailable, classRetry:
		return unreachableFault(err)
	}
	return fmt.Errorf("metadb: %w", err)
}

func unreachableFault(cause error) *fault.Error {
	f := fault.New(fault.Unavailable, fault.UnavailableReason, "metadata database is unreachable; try again").Because(cause)
	f.After = 2
	return f
}

func closedFault() error {
	return fault.New(fault.Unavailable, fault.UnavailableReason, "metadata database is closed; the registry is stopping")
}

func classifySQLite(err error) class {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return classOther
	}
	switch e.Code() {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_ROWID:
		return classUnique
	case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
		return classForeign
	case sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC:
		return classSyncFailed
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_FULL:
		return classFull
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY:
		return classUnavailable
	}
	return classOther
}

// crowdedRow begins what PostgreSQL says, as an internal error, to a transaction that has a row's key locked and updates the row while
// another's update of it is ending. Nothing of the transaction has happened.
const crowdedRow = "new multixact has more than one updating member"

func classifyPostgres(err error) class {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return classifyConnection(err)
	}
	switch e.Code {
	case "23505":
		return classUnique
	case "23503":
		return classForeign
	case "53100": // disk_full
		return classFull
	case "40001", "40P01": // serialization_failure, deadlock_detected
		return classRetry
	case "25006", "53300", "55P03", "57014": // read_only_sql_transaction (a standby answered), too_many_connections, lock_timeout, statement_timeout
		return classUnavailable
	case "XX000":
		if strings.HasPrefix(e.Message, crowdedRow) {
			return classRetry
		}
	}
	if strings.HasPrefix(e.Code, "08") || strings.HasPrefix(e.Code, "57P") {
		return classUnavailable
	}
	return classOther
}

// isLockTimeout says that a statement did not get its lock in lock_timeout; only migrations have one.
func isLockTimeout(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "55P03"
}

// lostConnection says that the connection is gone or of no use any more, and that a transaction which had not come to its
// commit is undone.
func lostConnection(err error) bool {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code == "25006" || strings.HasPrefix(e.Code, "08") || strings.HasPrefix(e.Code, "57P")
	}
	return !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) && classifyConnection(err) == classUnavailable
}

// classifyConnection judges errors that no server sent.
func classifyConnection(err error) class {
	var connect *pgconn.ConnectError
	var network net.Error
	if errors.As(err, &connect) || errors.As(err, &network) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || pgconn.SafeToRetry(err) {
		return classUnavailable
	}
	return classOther
}
