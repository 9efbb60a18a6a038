package testkit_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/berth-registry/berth/internal/testkit"
)

func TestPostgresGivesSeparateEmptyDatabases(t *testing.T) {
	a, b := testkit.Postgres(t), testkit.Postgres(t)
	query(t, a, "CREATE TABLE only_in_a (n BIGINT)")
	if got := query(t, b, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"); got != "0" {
		t.Errorf("second database has %s tables, want none", got)
	}
}

func TestPostgresDropsTheDatabaseAtTheEnd(t *testing.T) {
	var gone string
	t.Run("use", func(t *testing.T) { gone = testkit.Postgres(t) })
	conn, err := pgconn.Connect(t.Context(), gone)
	if err == nil {
		conn.Close(t.Context())
		t.Fatalf("database %s still answers after its test", gone)
	}
	if !strings.Contains(err.Error(), "3D000") { // invalid_catalog_name
		t.Fatalf("connect to the dropped database: %v, want SQLSTATE 3D000", err)
	}
}

// The cluster must end with the process, also when the process had no chance to clean up.
func TestClusterEndsWithAKilledProcess(t *testing.T) {
	if os.Getenv("TESTKIT_CHILD") != "" {
		fmt.Println("dsn=" + testkit.Postgres(t))
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	testkit.Postgres(t) // skips here when there is no PostgreSQL at all
	cmd := exec.Command(os.Args[0], "-test.run=^TestClusterEndsWithAKilledProcess$")
	tmp := filepath.Join(os.TempDir(), "testkit-child-"+strconv.Itoa(os.Getpid()))
	// As the system's own temporary directory is: PostgreSQL's user passes through, and may remove what it owns.
	if err := errors.Join(os.Mkdir(tmp, 0o700), os.Chmod(tmp, 0o777|os.ModeSticky)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(tmp) })
	cmd.Env = append(os.Environ(), "TESTKIT_CHILD=1", "TMPDIR="+tmp, "BERTH_TEST_POSTGRES=")
	out, _ := cmd.CombinedOutput() // it kills itself
	_, dsn, ok := strings.Cut(string(out), "dsn=")
	if !ok {
		t.Fatalf("child printed no DSN:\n%s", out)
	}
	dsn, _, _ = strings.Cut(dsn, "\n")
	deadline := time.Now().Add(20 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		conn, err := pgconn.Connect(ctx, dsn)
		if err == nil {
			conn.Close(ctx)
		}
		cancel()
		left, _ := filepath.Glob(filepath.Join(tmp, "*"))
		if err != nil && len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("20 s after its process: server answers: %v, left behind: %v", err == nil, left)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestFreePortIsFreeAndNeverTheSame(t *testing.T) {
	seen := map[int]bool{}
	for range 200 {
		port := testkit.FreePort(t)
		if seen[port] {
			t.Fatalf("port %d was given twice", port)
		}
		seen[port] = true
	}
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t)))
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func TestRequireDisk(t *testing.T) {
	testkit.RequireDisk(t, t.TempDir(), 1)
	t.Run("too much", func(t *testing.T) {
		t.Setenv("CI", "")
		t.Setenv("BERTH_TEST_REQUIRE", "")
		skipped := true
		t.Cleanup(func() {
			if !skipped {
				t.Error("an exbibyte was found free")
			}
		})
		testkit.RequireDisk(t, t.TempDir(), 1<<60)
		skipped = false
	})
}

// verdict notes how a test was ended.
type verdict struct {
	testing.TB
	is string
}

func (v *verdict) Helper()               {}
func (v *verdict) Fatalf(string, ...any) { v.is = "failed"; runtime.Goexit() }
func (v *verdict) Skipf(string, ...any)  { v.is = "skipped"; runtime.Goexit() }

func TestMissing(t *testing.T) {
	for _, x := range []struct{ ci, require, want string }{{"", "", "skipped"}, {"", "1", "failed"}, {"true", "", "failed"}} {
		t.Setenv("CI", x.ci)
		t.Setenv("BERTH_TEST_REQUIRE", x.require)
		v, ended := &verdict{}, make(chan struct{})
		go func() { defer close(ended); testkit.Missing(v, "no %s", "docker") }()
		if <-ended; v.is != x.want {
			t.Errorf("CI=%q BERTH_TEST_REQUIRE=%q: a test that lacks something is %q, want %s", x.ci, x.require, v.is, x.want)
		}
	}
}

func query(t *testing.T, dsn, sql string) string {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	results, err := conn.Exec(t.Context(), sql).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(results) == 1 && len(results[0].Rows) == 1 {
		return string(results[0].Rows[0][0])
	}
	return ""
}
