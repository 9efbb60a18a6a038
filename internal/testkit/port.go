package testkit

import (
	"net"
	"sync"
	"testing"
)

// handedOut remembers the ports this process gave away: the kernel may offer a port again as soon as it is closed,
// before the first caller has bound it.
var handedOut sync.Map

// FreePort returns a TCP port of 127.0.0.1 that nothing listens on and that this process has not given away before.
// Another process can still take it first; Start tries again when that happens.
func FreePort(t testing.TB) int {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatalf("testkit: no free port: %v", err)
	}
	return port
}

func freePort() (int, error) {
	for {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		port := l.Addr().(*net.TCPAddr).Port
		l.Close()
		if _, taken := handedOut.LoadOrStore(port, true); !taken {
			return port, nil
		}
	}
}
