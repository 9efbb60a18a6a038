package main

import (
	"fmt"
	"net"
)

// notifier tells the service manager how far berthd is: the protocol of sd_notify(3), one datagram of lines to the socket
// that NOTIFY_SOCKET names. Without that name it is silent.
type notifier struct{ socket string }

// The states that systemd acts upon.
const (
	stateReady     = "READY=1"
	stateReloading = "RELOADING=1"
	stateStopping  = "STOPPING=1"
)

func (n notifier) tell(state string) error {
	if n.socket == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("service manager was not told %s: %w", state, err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte(state)); err != nil {
		return fmt.Errorf("service manager was not told %s: %w", state, err)
	}
	return nil
}
