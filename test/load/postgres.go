package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/berth-registry/berth/internal/testkit/machine"
)

// postgresSettings are PostgreSQL's own, but for these: loopback only, room for every berthd of a run, and a cache of the
// size that anybody would set. It syncs as it is shipped.
const postgresSettings = `
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
shared_buffers = '256MB'
`

// postgres is a PostgreSQL that this program started. It serves one stage at a time.
type postgres struct {
	proc  *process
	dir   string
	dsn   string // %s is the database
	made  int
	names []string
}

// startPostgres makes a cluster and starts the newest PostgreSQL of this machine on it.
func startPostgres(ctx context.Context, disk *budget) (p *postgres, err error) {
	bin, err := findPostgres()
	if err != nil {
		return nil, err
	}
	parent := disk.dir
	cred, err := postgresUser()
	if err != nil {
		return nil, err
	}
	if cred != nil {
		parent = "" // another user may not enter our folder: the system's for temporary files
	}
	p = &postgres{}
	if p.dir, err = os.MkdirTemp(parent, "berth-bench-postgres-"); err != nil {
		return nil, fmt.Errorf("folder for PostgreSQL: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.stop())
		}
	}()
	if memory, err := machine.InMemory(p.dir); err != nil {
		return nil, err
	} else if memory {
		return nil, fmt.Errorf("%s is tmpfs, where a sync costs nothing: set TMPDIR to a folder on a disk, or do not run as root", p.dir)
	}
	if cred != nil {
		if err := os.Chown(p.dir, int(cred.Uid), int(cred.Gid)); err != nil {
			return nil, fmt.Errorf("folder for PostgreSQL: %w", err)
		}
	}
	disk.add(p.dir)
	data := filepath.Join(p.dir, "data")
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	initdb.Dir, initdb.SysProcAttr = "/", &syscall.SysProcAttr{Credential: cred}
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	conf, err := os.OpenFile(filepath.Join(data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("configure PostgreSQL: %w", err)
	}
	_, err = conf.WriteString(postgresSettings)
	if err = errors.Join(err, conf.Close()); err != nil {
		return nil, fmt.Errorf("configure PostgreSQL: %w", err)
	}
	return p, p.start(ctx, filepath.Join(bin, "postgres"), data, cred)
}

func (p *postgres) start(ctx context.Context, program, data string, cred *syscall.Credential) error {
	addr, err := freeAddr()
	if err != nil {
		return err
	}
	p.dsn = "postgres://postgres@" + addr + "/%s?sslmode=disable"
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	if p.proc, err = startProcessAs(cred, filepath.Join(p.dir, "log"), "/", nil, []string{program, "-D", data, "-p", port}); err != nil {
		return err
	}
	p.proc.end = syscall.SIGINT // "fast": what is connected is cut off
	for began := time.Now(); time.Since(began) < readyWait; {
		if err = p.exec(ctx, "SELECT 1"); err == nil {
			return nil
		}
		if p.proc.exited() {
			return fmt.Errorf("PostgreSQL ended at once: %s", p.proc.logTail())
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("PostgreSQL is not ready after %s: %w: %s", readyWait, err, p.proc.logTail())
}

// exec runs statements in the database postgres.
func (p *postgres) exec(ctx context.Context, statements ...string) error {
	db, err := sql.Open("pgx", fmt.Sprintf(p.dsn, "postgres"))
	if err != nil {
		return err
	}
	defer db.Close()
	for _, s := range statements {
		if _, err := db.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("PostgreSQL: %s: %w", s, err)
		}
	}
	return nil
}

// create makes an empty database, whose name may also name a bucket.
func (p *postgres) create(ctx context.Context) (name, dsn string, err error) {
	p.made++
	name = fmt.Sprintf("bench%d", p.made)
	p.names = append(p.names, name)
	return name, fmt.Sprintf(p.dsn, name), p.exec(ctx, "CREATE DATABASE "+name)
}

// dropAll removes the databases of a stage and writes out what is left, so that the next stage does not pay for it.
func (p *postgres) dropAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyWait)
	defer cancel()
	var statements []string
	for _, name := range p.names {
		statements = append(statements, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
	}
	p.names = nil
	return p.exec(ctx, append(statements, "CHECKPOINT")...)
}

func (p *postgres) stop() error {
	var err error
	if p.proc != nil {
		err = p.proc.stop()
	}
	return errors.Join(err, os.RemoveAll(p.dir))
}

// postgresUser is who PostgreSQL runs as when we are root, which it refuses to be; nil is ourselves.
func postgresUser() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, fmt.Errorf("find a user for PostgreSQL, which does not run as root: %w", err)
		}
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("find a user for PostgreSQL: %w", err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// findPostgres is the folder of the newest server; Debian keeps it off PATH.
func findPostgres() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		return "", err
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path)))) // a name that is no number comes last
		return n
	}
	slices.SortFunc(found, func(a, b string) int { return version(b) - version(a) })
	if len(found) > 0 {
		return filepath.Dir(found[0]), nil
	}
	path, err := exec.LookPath("postgres")
	if err != nil {
		return "", errors.New("PostgreSQL is not installed: run test/setup/setup.sh")
	}
	return filepath.Dir(path), nil
}
