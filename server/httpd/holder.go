package httpd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// listen opens a TCP listener; when the port is taken it says by whom and what to do.
func listen(ctx context.Context, addr, flag string) (net.Listener, error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false) // plain TCP: sendfile and deadlines are what this room is built on
	l, err := config.Listen(ctx, "tcp", addr)
	if err == nil {
		return l, nil
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		host, port, _ := net.SplitHostPort(addr)
		number, _ := strconv.Atoi(port)
		other := net.JoinHostPort(host, strconv.Itoa(number+1)) // on the same host: advice must not open a registry to others
		return nil, fmt.Errorf("address %s is in use%s; use another one: %s %s", addr, heldBy(number), flag, other)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("address %s may not be opened by this user (ports below 1024 need CAP_NET_BIND_SERVICE); use another one: %s :5000", addr, flag)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("address %s does not belong to this machine; use one that does, or %s :5000 for all", addr, flag)
	}
	return nil, fmt.Errorf("address %q cannot be listened on: %w; use a form like 127.0.0.1:5000 or :5000", addr, err)
}

// heldBy names the process that listens on a port, as far as /proc lets us see it: ` by nginx (pid 7)`, or "".
func heldBy(port int) string {
	inode := listeningInode(port)
	if inode == "" {
		return ""
	}
	want := "socket:[" + inode + "]"
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range processes {
		descriptors, err := os.ReadDir(filepath.Join(dir, "fd"))
		if err != nil {
			continue // not ours to see
		}
		for _, d := range descriptors {
			if target, err := os.Readlink(filepath.Join(dir, "fd", d.Name())); err != nil || target != want {
				continue
			}
			name, _ := os.ReadFile(filepath.Join(dir, "comm"))
			return fmt.Sprintf(" by %s (pid %s)", strings.TrimSpace(string(name)), filepath.Base(dir))
		}
	}
	return ""
}

// listeningInode finds the socket in the kernel's tables (proc(5), /proc/net/tcp): field 1 is the local address and
// port in hexadecimal, field 3 the state (0A is LISTEN), field 9 the inode.
func listeningInode(port int) string {
	suffix := fmt.Sprintf(":%04X", port)
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(table)
		if err != nil {
			continue
		}
		scan := bufio.NewScanner(f)
		for scan.Scan() {
			fields := strings.Fields(scan.Text())
			if len(fields) > 9 && fields[3] == "0A" && strings.HasSuffix(fields[1], suffix) {
				_ = f.Close()
				return fields[9]
			}
		}
		_ = f.Close()
	}
	return ""
}
