package testkit_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

func TestDaemonLives(t *testing.T) {
	d := testkit.Start(t, testkit.Options{})
	if status(t, d.URL+"/readyz") != http.StatusOK {
		t.Error("the daemon was started and is not ready")
	}
	if _, err := os.Stat(filepath.Join(d.Data, "berth.db")); err != nil {
		t.Errorf("the daemon keeps its data elsewhere: %v", err)
	}
	first := d.PID()
	d.Kill()
	if d.PID() != 0 || alive(first) {
		t.Errorf("process %d lives after Kill", first)
	}
	if _, err := net.DialTimeout("tcp", d.Addr, time.Second); err == nil {
		t.Errorf("%s still answers after Kill", d.Addr)
	}
	d.Kill() // again is nothing
	if err := d.Stop(); err != nil {
		t.Errorf("stop after kill: %v", err)
	}

	d.Restart(t)
	second := d.PID()
	if second == 0 || second == first || status(t, d.URL+"/readyz") != http.StatusOK {
		t.Errorf("after Restart: process %d, before %d", second, first)
	}
	if err := d.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if alive(second) {
		t.Errorf("process %d lives after Stop", second)
	}
	if d.Log() == "" {
		t.Error("the daemon wrote no log")
	}
}

func TestDaemonOnPostgres(t *testing.T) {
	d := testkit.Start(t, testkit.Options{Database: testkit.Postgres(t)})
	if status(t, d.URL+"/readyz") != http.StatusOK {
		t.Error("the daemon was started and is not ready")
	}
	if _, err := os.Stat(filepath.Join(d.Data, "berth.db")); err == nil {
		t.Error("with PostgreSQL there is a SQLite file")
	}
}

// The environment of whoever runs the tests must not configure the daemon.
func TestDaemonHasACleanEnvironment(t *testing.T) {
	t.Setenv("BERTH_ANONYMOUS", "delete")
	d := testkit.Start(t, testkit.Options{Env: []string{"BERTH_ANONYMOUS=none"}})
	if got := status(t, d.URL+"/v2/"); got != http.StatusUnauthorized {
		t.Errorf("GET /v2/ with BERTH_ANONYMOUS=none: %d, want 401", got)
	}
	d = testkit.Start(t, testkit.Options{})
	if got := status(t, d.URL+"/v2/"); got != http.StatusUnauthorized {
		t.Errorf("GET /v2/ with our own BERTH_ANONYMOUS=delete: %d, want 401", got)
	}
}

// A daemon must not outlive a test process that is killed.
func TestDaemonEndsWithAKilledProcess(t *testing.T) {
	if os.Getenv("TESTKIT_CHILD") != "" {
		fmt.Printf("pid=%d\n", testkit.Start(t, testkit.Options{}).PID())
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	bin := testkit.BuildBerthd(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestDaemonEndsWithAKilledProcess$")
	cmd.Env = append(os.Environ(), "TESTKIT_CHILD=1", "TMPDIR="+t.TempDir(), "BERTH_TEST_BERTHD="+bin)
	out, _ := cmd.CombinedOutput() // it kills itself
	_, rest, _ := strings.Cut(string(out), "pid=")
	line, _, _ := strings.Cut(rest, "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatalf("child printed no process id:\n%s", out)
	}
	for deadline := time.Now().Add(10 * time.Second); alive(pid); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("daemon %d outlived its test process by 10 s", pid)
		}
	}
}

func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	// One that ended and was not waited for yet does not live.
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return !os.IsNotExist(err)
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z")
}

func status(t *testing.T, url string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}
