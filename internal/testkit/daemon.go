package testkit

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	readyWithin = 60 * time.Second // not what we promise: a dozen may start at the same time, beside a build
	stopWithin  = 30 * time.Second
)

// Options say how to start a berthd. The zero value is a berthd as a user gets it who types nothing else: SQLite and
// files in a fresh directory.
type Options struct {
	Env      []string // NAME=value, over an environment without any BERTH_ or REGISTRY_ variable
	Args     []string // further arguments of "berthd serve"
	Config   string   // YAML text of a configuration file; none when empty
	Data     string   // data directory; t.TempDir() when empty
	Database string   // DSN for BERTH_DATABASE; SQLite in Data when empty
	Addr     string   // address to listen on; a free port of 127.0.0.1 when empty
	Binary   string   // another berthd than that of this tree; BuildBerthd's when empty
}

// Daemon is a running berthd. Its methods are for one goroutine at a time, except Log.
type Daemon struct {
	Addr string // 127.0.0.1:port
	URL  string // http://127.0.0.1:port
	Data string // data directory

	bin  string
	args []string
	env  []string
	log  *tail
	run  *running // nil once it was stopped or killed
}

// running is one process: exited is closed after err was set to what Wait said.
type running struct {
	cmd    *exec.Cmd
	exited chan struct{}
	err    error
}

// Start starts berthd, waits until GET /readyz answers 200, and stops it when the test ends. A daemon that is not
// ready within a minute, or that does not exit with code 0 at the end, fails the test and prints its log.
func Start(t testing.TB, o Options) *Daemon {
	t.Helper()
	d := &Daemon{Data: o.Data, bin: o.Binary, log: &tail{}}
	if d.bin == "" {
		d.bin = BuildBerthd(t)
	}
	if d.Data == "" {
		d.Data = t.TempDir()
	}
	args := []string{"serve"}
	if o.Config != "" {
		file := filepath.Join(t.TempDir(), "config.yml")
		if err := os.WriteFile(file, []byte(o.Config), 0o600); err != nil {
			t.Fatalf("testkit: %v", err)
		}
		args = append(args, file)
	}
	d.env = append(cleanEnv(), "BERTH_DATA="+d.Data)
	if o.Database != "" {
		d.env = append(d.env, "BERTH_DATABASE="+o.Database)
	}
	d.env = append(d.env, o.Env...)

	t.Cleanup(func() {
		if err := d.Stop(); err != nil {
			t.Errorf("testkit: %v", err)
		}
		if t.Failed() {
			t.Logf("log of berthd at %s, without requests that went well:\n%s", d.Addr, troubled(d.Log()))
		}
	})

	// A port we were told is tried once; one we chose may be taken by another process before berthd has bound it.
	tries := 3
	if o.Addr != "" {
		tries = 1
	}
	var err error
	for range tries {
		d.Addr = o.Addr
		if d.Addr == "" {
			d.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(FreePort(t)))
		}
		d.URL = "http://" + d.Addr
		d.args = append(append(slices.Clone(args), "--addr", d.Addr), o.Args...)
		if err = d.start(); err == nil {
			return d
		}
		if !strings.Contains(d.Log(), "address already in use") {
			break
		}
	}
	t.Fatalf("testkit: %v", err)
	return nil
}

// troubled leaves of a log what may tell why a test failed: all but requests that went well, and of those the last few.
func troubled(log string) string {
	const last = 20
	lines := strings.SplitAfter(log, "\n")
	var kept strings.Builder
	for i, line := range lines {
		if i >= len(lines)-last || !strings.Contains(line, " msg=request ") || strings.Contains(line, " status=5") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// Restart starts the daemon again with the same address, data, arguments and environment, after a graceful stop when
// it still runs.
func (d *Daemon) Restart(t testing.TB) {
	t.Helper()
	if err := d.Stop(); err != nil {
		t.Fatalf("testkit: %v", err)
	}
	if err := d.start(); err != nil {
		t.Fatalf("testkit: %v", err)
	}
}

// Kill ends the daemon as a power cut would end it, with SIGKILL, and waits until the process is gone.
func (d *Daemon) Kill() {
	if d.run == nil {
		return
	}
	_ = d.run.cmd.Process.Kill() // it fails only when the process is gone, which is what is asked for
	<-d.run.exited
	d.run = nil
}

// Stop asks the daemon to drain and exit, with SIGTERM, and waits. It fails when the exit code is not 0, also when the
// daemon had ended by itself, and when it takes more than 30 seconds; it is killed then. On a daemon that was stopped
// or killed it does nothing.
func (d *Daemon) Stop() error {
	if d.run == nil {
		return nil
	}
	run := d.run
	d.run = nil
	_ = run.cmd.Process.Signal(syscall.SIGTERM) // a process that is gone shows in its exit code
	select {
	case <-run.exited:
	case <-time.After(stopWithin):
		_ = run.cmd.Process.Kill()
		<-run.exited
		return fmt.Errorf("berthd at %s did not exit within %s of SIGTERM", d.Addr, stopWithin)
	}
	if run.err != nil {
		return fmt.Errorf("berthd at %s, asked to stop: %w", d.Addr, run.err)
	}
	return nil
}

// Signal sends sig to the daemon, for example SIGHUP.
func (d *Daemon) Signal(sig os.Signal) error {
	if d.run == nil {
		return errors.New("testkit: berthd does not run")
	}
	return d.run.cmd.Process.Signal(sig)
}

// PID returns the process id, or 0 when the daemon was stopped or killed.
func (d *Daemon) PID() int {
	if d.run == nil {
		return 0
	}
	return d.run.cmd.Process.Pid
}

// Log returns what the daemon has written to standard output and standard error so far, over all restarts; the last
// megabytes of it when there is more. Safe for concurrent use.
func (d *Daemon) Log() string { return d.log.String() }

func (d *Daemon) start() error {
	cmd := exec.Command(d.bin, d.args...)
	cmd.Env = d.env
	cmd.Stdout, cmd.Stderr = d.log, d.log
	cmd.SysProcAttr = childAttr()
	// A grandchild that inherited the output must not hold up Wait for ever.
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start berthd: %w", err)
	}
	run := &running{cmd: cmd, exited: make(chan struct{})}
	go func() {
		run.err = cmd.Wait()
		close(run.exited)
	}()
	if err := awaitReady(d.URL+"/readyz", d.Addr, run); err != nil {
		_ = cmd.Process.Kill()
		<-run.exited
		return fmt.Errorf("%w\n%s", err, d.Log())
	}
	d.run = run
	return nil
}

func awaitReady(url, addr string, run *running) error {
	// A transport of its own: a connection kept from a daemon that was killed must not answer for the next one.
	transport := &http.Transport{DisableKeepAlives: true}
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	deadline := time.NewTimer(readyWithin)
	defer deadline.Stop()
	var last error
	for {
		resp, err := client.Get(url)
		switch {
		case err != nil:
			last = err
		case resp.StatusCode != http.StatusOK:
			last = fmt.Errorf("GET %s: %s", url, resp.Status)
		}
		if err == nil {
			resp.Body.Close()
		}
		select {
		case <-run.exited:
			// Looked at before the answer counts: on a port that was taken, somebody else answered.
			return fmt.Errorf("berthd ended before it was ready: %v", run.err)
		case <-deadline.C:
			return fmt.Errorf("berthd is not ready after %s: %w", readyWithin, last)
		default:
		}
		// A berthd of another process may have the port for the moment before ours takes it, and answer in its place.
		if err == nil && resp.StatusCode == http.StatusOK && listens(run.cmd.Process.Pid, addr) {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// cleanEnv is our environment without what would configure berthd: a test says itself what it wants.
func cleanEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "BERTH_") || strings.HasPrefix(kv, "REGISTRY_") || strings.HasPrefix(kv, "OTEL_")
	})
}

// tail keeps the end of a log. Tests that provoke a lot of logging must not hold all of it in memory.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailBytes = 4 << 20

func (l *tail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, p...)
	if len(l.buf) > 2*tailBytes {
		l.buf = append([]byte(nil), l.buf[len(l.buf)-tailBytes:]...)
	}
	return len(p), nil
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.buf)
}
