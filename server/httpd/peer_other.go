//go:build !linux

package httpd

import "net"

// peerOf relies on the rights of the socket's file, which only its owner and root can open.
func peerOf(*net.UnixConn) Peer { return Peer{UID: -1, Admitted: true} }
