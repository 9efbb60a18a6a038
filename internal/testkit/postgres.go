package testkit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// errNoPostgres says that this machine has no PostgreSQL to start.
var errNoPostgres = errors.New("testkit: no PostgreSQL here: apt-get install -y postgresql, " +
	"or set BERTH_TEST_POSTGRES to the DSN of a superuser of a running server")

// cluster is the superuser DSN of the server of this process, started at the first call. It ends with the process.
var cluster = sync.OnceValues(func() (string, error) {
	if dsn := os.Getenv("BERTH_TEST_POSTGRES"); dsn != "" {
		return dsn, nil
	}
	return startCluster()
})

// Postgres returns the DSN (a postgres:// URL) of a fresh, empty database that is dropped when the test ends.
//
// The server is the one BERTH_TEST_POSTGRES names, or else a throw-away cluster of the installed PostgreSQL, shared
// by the tests of this process, on a port of 127.0.0.1. The cluster sorts text as a language does, not by bytes,
// when its build can: an ORDER BY that forgot its collation then fails here and not at a user's. It does not sync
// to disk, so durability of PostgreSQL itself cannot be shown with it.
//
// Without any PostgreSQL the test is skipped, or fails where the package comment says so.
func Postgres(t testing.TB) string {
	t.Helper()
	NeedPostgres(t)
	return PostgresTemplate{name: "template1"}.Database(t)
}

// NeedPostgres is what Postgres does when there is none.
func NeedPostgres(t testing.TB) {
	t.Helper()
	_, err := cluster()
	if errors.Is(err, errNoPostgres) {
		Missing(t, "%v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// PostgresTemplate is a database of which others are copies.
type PostgresTemplate struct{ name string }

// NewPostgresTemplate makes one, and has it prepared. It stays until the server of this process ends, which that of
// BERTH_TEST_POSTGRES does not.
func NewPostgresTemplate(prepare func(dsn string) error) (PostgresTemplate, error) {
	p := PostgresTemplate{name: newDatabaseName()}
	super, err := cluster()
	if err == nil {
		err = execSQL(super, "CREATE DATABASE "+p.name)
	}
	if err != nil {
		return p, err
	}
	dsn, err := databaseDSN(super, p.name)
	if err == nil {
		err = prepare(dsn)
	}
	return p, err
}

// Database is the DSN of a copy, which is dropped when the test ends.
func (p PostgresTemplate) Database(t testing.TB) string {
	t.Helper()
	super, err := cluster()
	if err != nil {
		t.Fatal(err)
	}
	name := newDatabaseName()
	if err := execSQL(super, "CREATE DATABASE "+name+" TEMPLATE "+p.name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// FORCE: a daemon that was killed may still have sessions that the server has not noticed yet.
		if err := execSQL(super, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("testkit: %v", err)
		}
	})
	dsn, err := databaseDSN(super, name)
	if err != nil {
		t.Fatal(err)
	}
	return dsn
}

func newDatabaseName() string { return "berth_test_" + strings.ToLower(rand.Text()[:16]) }

func databaseDSN(super, name string) (string, error) {
	dsn, err := url.Parse(super)
	if err != nil {
		return "", fmt.Errorf("testkit: BERTH_TEST_POSTGRES is not a postgres:// URL: %w", err)
	}
	dsn.Path = "/" + name
	return dsn.String(), nil
}

func execSQL(dsn, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgconn.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("testkit: connect to PostgreSQL: %w", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql).ReadAll(); err != nil {
		return fmt.Errorf("testkit: %s: %w", sql, err)
	}
	return nil
}

// postgresKeeper runs the server $1/postgres on data directory $2 at port $3 until this process ends, and then
// removes directory $4. SIGQUIT is PostgreSQL's "stop at once": the data is thrown away anyway.
const postgresKeeper = `
"$1/postgres" -D "$2" -p "$3" </dev/null &
pid=$!
read _
kill -QUIT $pid
wait $pid
rm -rf "$4"`

// serverSettings trade durability, which a throw-away cluster does not need, for speed.
const serverSettings = `
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 400
shared_buffers = '64MB'
fsync = off
synchronous_commit = off
full_page_writes = off
autovacuum_naptime = '10s'
`

func startCluster() (string, error) {
	bin, err := postgresBin()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "berth-postgres-")
	if err != nil {
		return "", fmt.Errorf("testkit: directory for PostgreSQL: %w", err)
	}
	dsn, err := startClusterIn(dir, bin)
	if err != nil {
		os.RemoveAll(dir)
	}
	return dsn, err
}

func startClusterIn(dir, bin string) (string, error) {
	cred, err := postgresUser(dir)
	if err != nil {
		return "", err
	}
	data := filepath.Join(dir, "data")
	if err := initCluster(bin, data, cred); err != nil {
		return "", err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return "", fmt.Errorf("testkit: log of PostgreSQL: %w", err)
	}
	defer log.Close()

	// Another process may take the port between our look and the server's bind: a few tries.
	for range 3 {
		port, err := freePort()
		if err != nil {
			return "", fmt.Errorf("testkit: port for PostgreSQL: %w", err)
		}
		release, err := keep(cred, log, postgresKeeper, bin, data, strconv.Itoa(port), dir)
		if err != nil {
			return "", err
		}
		dsn := fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port)
		if err = awaitPostgres(dsn, filepath.Join(data, "postmaster.pid")); err == nil {
			return dsn, nil
		}
		text, _ := os.ReadFile(log.Name())
		inUse := strings.Contains(string(text), "Address already in use")
		if !inUse {
			release()
			return "", fmt.Errorf("%w\n%s", err, text)
		}
		// Releasing the keeper would remove dir; it is left to notice the end of this process.
		if err := log.Truncate(0); err != nil {
			return "", fmt.Errorf("testkit: log of PostgreSQL: %w", err)
		}
	}
	return "", errors.New("testkit: PostgreSQL found no free port in three tries")
}

// awaitPostgres returns when the server answers, or with the last error after 30 seconds, or as soon as the server
// has given up (it removes its pid file then).
func awaitPostgres(dsn, pidFile string) error {
	started := false
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := execSQL(dsn, "SELECT 1")
		if err == nil {
			return nil
		}
		_, statErr := os.Stat(pidFile)
		if started && statErr != nil || time.Now().After(deadline) {
			return fmt.Errorf("testkit: PostgreSQL did not start: %w", err)
		}
		started = started || statErr == nil
		time.Sleep(20 * time.Millisecond)
	}
}

func initCluster(bin, data string, cred *syscall.Credential) error {
	base := []string{"-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"}
	language := []string{"--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US"}
	plain := []string{"--locale=C"}
	var failed error
	for _, locale := range [][]string{language, plain} {
		cmd := exec.Command(filepath.Join(bin, "initdb"), append(slices.Clone(base), locale...)...)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
		out, err := cmd.CombinedOutput()
		if err == nil {
			return appendFile(filepath.Join(data, "postgresql.conf"), serverSettings)
		}
		failed = errors.Join(failed, fmt.Errorf("testkit: initdb: %w\n%s", err, out))
	}
	return failed
}

func appendFile(name, text string) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("testkit: %w", err)
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// postgresUser returns the identity to run the server as, and gives it dir. It is nil, our own, unless we are root:
// PostgreSQL refuses to run as root.
func postgresUser(dir string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, fmt.Errorf("testkit: a user to run PostgreSQL as, we are root: %w", err)
		}
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("testkit: uid of %s: %w", u.Username, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("testkit: gid of %s: %w", u.Username, err)
	}
	if err := os.Chown(dir, int(uid), int(gid)); err != nil {
		return nil, fmt.Errorf("testkit: %w", err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// postgresBin returns the directory of the newest installed server: Debian keeps it off PATH.
func postgresBin() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		return "", fmt.Errorf("testkit: look for PostgreSQL: %w", err)
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path)))) // a name that is no number comes last
		return n
	}
	slices.SortFunc(found, func(a, b string) int { return version(b) - version(a) })
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			found = append(found, path)
		}
	}
	for _, path := range found {
		bin := filepath.Dir(path)
		if _, err := os.Stat(filepath.Join(bin, "initdb")); err == nil {
			return bin, nil
		}
	}
	return "", errNoPostgres
}
