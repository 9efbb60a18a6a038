package testkit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// PostgresServer is a PostgreSQL of one test's own, which it can stop and start again on the same port with the same
// data. Its methods are for one goroutine at a time.
type PostgresServer struct {
	DSN string // of its database postgres, as superuser

	bin, data string
	port      int
	cred      *syscall.Credential
	log       *os.File
	release   func() // nil while it is stopped
}

// OwnPostgres starts a server that ends with the test. It syncs as a real one does, so that a crash loses nothing that
// was answered.
func OwnPostgres(t testing.TB) *PostgresServer {
	t.Helper()
	bin, err := postgresBin()
	if errors.Is(err, errNoPostgres) {
		Missing(t, "%v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "berth-postgres-")
	if err != nil {
		t.Fatalf("testkit: directory for PostgreSQL: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &PostgresServer{bin: bin, data: filepath.Join(dir, "data"), port: FreePort(t)}
	if p.cred, err = postgresUser(dir); err == nil {
		err = initCluster(bin, p.data, p.cred)
	}
	if err == nil {
		err = appendFile(filepath.Join(p.data, "postgresql.conf"), "fsync = on\nsynchronous_commit = on\nfull_page_writes = on\n")
	}
	if err == nil {
		p.log, err = os.Create(filepath.Join(dir, "log"))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Crash()
		_ = p.log.Close()
	})
	p.DSN = fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", p.port)
	p.Start(t)
	return p
}

// Start starts the server again and returns when it answers.
func (p *PostgresServer) Start(t testing.TB) {
	t.Helper()
	if p.release != nil {
		return
	}
	var err error
	if p.release, err = keep(p.cred, p.log, postgresKeeper, p.bin, p.data, strconv.Itoa(p.port), ""); err != nil {
		t.Fatal(err)
	}
	if err := awaitPostgres(p.DSN, filepath.Join(p.data, "postmaster.pid")); err != nil {
		text, _ := os.ReadFile(p.log.Name())
		t.Fatalf("%v\n%s", err, text)
	}
}

// Crash ends the server at once, as the end of its machine would, and returns when it is gone.
func (p *PostgresServer) Crash() {
	if p.release != nil {
		p.release()
		p.release = nil
	}
}

// Stop ends the server as an administrator's restart does: sessions are ended, everything is written. Start starts it
// again.
func (p *PostgresServer) Stop(t testing.TB) {
	t.Helper()
	if p.release == nil {
		return
	}
	file := filepath.Join(p.data, "postmaster.pid")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("testkit: process of PostgreSQL: %v", err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		t.Fatalf("testkit: process of PostgreSQL: %v", err)
	}
	if err := syscall.Kill(pid, syscall.SIGINT); err != nil { // "fast" in PostgreSQL's words
		t.Fatalf("testkit: stop PostgreSQL: %v", err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("testkit: PostgreSQL does not stop")
		}
	}
	p.Crash() // only the keeper is left
}
