package httpd

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// peerOf asks the kernel who opened the connection; the rights of the file are then not the only guard.
func peerOf(c *net.UnixConn) Peer {
	p := Peer{UID: -1}
	raw, err := c.SyscallConn()
	if err != nil {
		return p
	}
	_ = raw.Control(func(fd uintptr) { // a connection that is closed already has no peer
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			p.UID = int(cred.Uid)
			p.Admitted = p.UID == 0 || p.UID == os.Geteuid()
		}
	})
	return p
}
