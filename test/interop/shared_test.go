package interop_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// shared holds the daemons that several tests use: starting dockerd for each test would cost more than the tests.
var shared daemons

type daemons struct {
	mu      sync.Mutex
	dir     string
	running map[string]*process
}

// process is one daemon of a client: its socket and its log.
type process struct {
	cmd    *exec.Cmd
	socket string
	log    string
	exited chan struct{}
}

// dockerd starts Docker's daemon once, with its own folders and socket and without a network, and returns the socket.
func (d *daemons) dockerd(t testing.TB) string {
	t.Helper()
	needRoot(t, "dockerd")
	bin := peer(t, "dockerd")
	return d.once(t, "dockerd", func(dir, socket string) *exec.Cmd {
		config := writeFile(t, filepath.Join(dir, "daemon.json"), []byte("{}"))
		return exec.Command(bin, "--config-file", config, "--data-root", filepath.Join(dir, "data"),
			"--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid"),
			"--host", "unix://"+socket, "--iptables=false", "--ip6tables=false", "--bridge=none")
	})
}

// containerd starts containerd once, with its own folders and socket, and returns the socket.
func (d *daemons) containerd(t testing.TB) string {
	t.Helper()
	needRoot(t, "containerd")
	bin := peer(t, "containerd")
	return d.once(t, "containerd", func(dir, socket string) *exec.Cmd {
		config := writeFile(t, filepath.Join(dir, "config.toml"), []byte("version = 2\n"))
		return exec.Command(bin, "--config", config, "--root", filepath.Join(dir, "root"),
			"--state", filepath.Join(dir, "state"), "--address", socket)
	})
}

func (d *daemons) once(t testing.TB, name string, command func(dir, socket string) *exec.Cmd) string {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if p := d.running[name]; p != nil {
		return p.socket
	}
	if d.dir == "" {
		// Not t.TempDir: it must outlive the test, and a socket's path may have 108 bytes at most.
		dir, err := os.MkdirTemp("", "interop-")
		if err != nil {
			t.Fatal(err)
		}
		d.dir, d.running = dir, map[string]*process{}
	}
	dir := filepath.Join(d.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	p := &process{socket: filepath.Join(dir, "sock"), log: filepath.Join(dir, "log"), exited: make(chan struct{})}
	p.cmd = command(dir, p.socket)
	p.cmd.Env = userEnv(dir)
	// Killed with us if we are killed: a test run that timed out must not leave daemons behind.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	log, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended shows in its log
		close(p.exited)
	}()
	d.running[name] = p
	p.await(t, name)
	return p.socket
}

// await returns when the daemon has made its socket.
func (p *process) await(t testing.TB, name string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if info, err := os.Stat(p.socket); err == nil && info.Mode().Type() == os.ModeSocket {
			return
		}
		select {
		case <-p.exited:
			t.Fatalf("%s ended before it was ready:\n%s", name, readFile(t, p.log))
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not ready after 30 s:\n%s", name, readFile(t, p.log))
		}
	}
}

// stop ends the daemons, by process id, and removes all they wrote.
func (d *daemons) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.running {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
	}
	for _, p := range d.running {
		select {
		case <-p.exited:
		case <-time.After(20 * time.Second):
			_ = p.cmd.Process.Kill()
			<-p.exited
		}
	}
	if d.dir != "" {
		_ = os.RemoveAll(d.dir)
	}
}
