package testkit

import (
	"net"
	"os"
	"os/exec"
	"testing"
)

// Who listens on a port is told apart from who does not.
func TestListens(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	other := exec.Command("sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	addr := l.Addr().String()
	if !listens(os.Getpid(), addr) {
		t.Errorf("this process listens on %s and is not found", addr)
	}
	if listens(other.Process.Pid, addr) {
		t.Errorf("a process that listens nowhere is found on %s", addr)
	}
	if listens(os.Getpid(), "127.0.0.1:1") {
		t.Error("this process is found on a port that nobody listens on")
	}
}
