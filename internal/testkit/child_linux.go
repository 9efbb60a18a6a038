package testkit

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// childAttr ties a daemon to this process: when the test binary dies without its clean-up (a timeout, SIGKILL), the
// kernel ends the daemon too.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// listens reports whether a process, or a child of it, listens on the port of addr.
func listens(pid int, addr string) bool {
	_, text, _ := net.SplitHostPort(addr)
	port, err := strconv.Atoi(text)
	if err != nil {
		return true // nothing that could be looked for
	}
	var sockets []string
	for _, table := range []string{"tcp", "tcp6"} {
		lines, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table)) // a process that is gone listens nowhere
		for line := range strings.Lines(string(lines)) {
			// sl, local address, remote address, state, queues, timer, retransmits, uid, timeout, inode
			if f := strings.Fields(line); len(f) > 9 && f[3] == "0A" && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
				sockets = append(sockets, "socket:["+f[9]+"]")
			}
		}
	}
	return holds(pid, sockets)
}

// holds reports whether a process, or a child of it, has one of the sockets open.
func holds(pid int, sockets []string) bool {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid)) // the pattern is well formed
	for _, file := range files {
		if to, err := os.Readlink(file); err == nil && slices.Contains(sockets, to) {
			return true
		}
	}
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for _, text := range strings.Fields(string(children)) {
		if child, err := strconv.Atoi(text); err == nil && holds(child, sockets) {
			return true
		}
	}
	return false
}
