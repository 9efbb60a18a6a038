package httpd

import (
	"log/slog"
	"net"
	"testing"
	"time"
)

// TestSpokenConnectionsAreServedAtTheEnd: a connection whose first byte has come when the listener closes is handed over all
// the same, and after it nothing is.
func TestSpokenConnectionsAreServedAtTheEnd(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newTwoFaced(tcp, nil, slog.New(slog.DiscardHandler), time.Minute, time.Minute, 10, time.Now)
	ended := make(chan error, 1)
	go func() { ended <- l.run() }()
	var all []net.Conn
	for range 3 {
		c, err := net.Dial("tcp", tcp.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		all = append(all, c)
	}
	if _, err := all[0].Write([]byte("G")); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		silent, spoken := len(l.silent), true
		for c := range l.silent {
			spoken = spoken && c.RemoteAddr().String() != all[0].LocalAddr().String()
		}
		l.mu.Unlock()
		if spoken && silent == 2 { // the two others, which wait for their first byte
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of 3 connections are silent", silent)
		}
	}
	if err := l.plain.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := l.plain.Accept()
	if err != nil {
		t.Fatalf("a connection that had spoken: %v", err)
	}
	b := make([]byte, 2)
	if n, err := c.Read(b); n != 1 || b[0] != 'G' || err != nil {
		t.Errorf("read %q, %v", b[:n], err)
	}
	_ = c.Close()
	if c, err := l.plain.Accept(); err == nil {
		t.Errorf("a silent connection was handed over: %v", c.RemoteAddr())
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
