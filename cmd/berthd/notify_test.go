package main_test

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

// What systemd waits for with Type=notify: ready when the port is open, around a reload, and when the drain begins.
func TestNotifiesServiceManager(t *testing.T) {
	dir, err := os.MkdirTemp("", "notify") // a socket's path may have 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	next := func(want string) {
		t.Helper()
		if err := socket.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		state := make([]byte, 256)
		n, err := socket.Read(state)
		if err != nil || string(state[:n]) != want {
			t.Fatalf("told %q (%v), want %q", state[:n], err, want)
		}
	}

	d := testkit.Start(t, testkit.Options{Env: []string{"NOTIFY_SOCKET=" + path}})
	next("READY=1")
	if err := d.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	next("RELOADING=1")
	next("READY=1")
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	next("STOPPING=1")
}
