package httpd

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"
)

// recordTypeHandshake is the first byte of every TLS connection (RFC 8446 5.1) and of no HTTP request.
const recordTypeHandshake = 0x16

// twoFaced splits one TCP listener into two, one for TLS and one for plain HTTP, by the first byte of each
// connection. A client that connects and says nothing occupies a goroutine that waits, never Accept.
type twoFaced struct {
	tcp    net.Listener
	log    *slog.Logger
	tls    *tls.Config // nil: everything is plain HTTP
	first  time.Duration
	stall  time.Duration
	now    func() time.Time
	slots  chan struct{} // one per open connection
	closed chan struct{} // no new connections
	sorted chan struct{} // and all that were accepted have been handed over
	once   sync.Once

	plain, secure *half
	waiting       sync.WaitGroup

	mu     sync.Mutex
	silent map[*conn]struct{} // connections that have not said anything yet
}

func newTwoFaced(tcp net.Listener, config *tls.Config, log *slog.Logger, first, stall time.Duration, limit int, now func() time.Time) *twoFaced {
	l := &twoFaced{tcp: tcp, tls: config, log: log, first: first, stall: stall, now: now,
		slots: make(chan struct{}, limit), closed: make(chan struct{}), sorted: make(chan struct{}),
		silent: map[*conn]struct{}{}}
	l.plain = &half{parent: l, accepted: make(chan net.Conn)}
	l.secure = &half{parent: l, accepted: make(chan net.Conn)}
	return l
}

// run accepts until the listener is closed. When all slots are taken it waits: the kernel's queue holds new
// connections, and the header and idle timeouts free slots.
func (l *twoFaced) run() error {
	defer func() {
		l.waiting.Wait()
		close(l.sorted)
	}()
	var delay time.Duration
	for {
		select {
		case l.slots <- struct{}{}:
		case <-l.closed:
			return nil
		}
		nc, err := l.tcp.Accept()
		if err != nil {
			<-l.slots
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			// Out of descriptors or memory: it passes, and an unaccepted connection is not lost.
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			l.log.Warn("accept failed; trying again", "error", err, "delay", delay)
			select {
			case <-time.After(delay):
			case <-l.closed:
				return nil
			}
			continue
		}
		delay = 0
		c := &conn{TCPConn: nc.(*net.TCPConn), now: l.now, stall: l.stall, closed: l.closed, release: func() { <-l.slots }}
		l.waiting.Go(func() { l.sort(c) })
	}
}

// sort reads the first byte and hands the connection to the half that speaks its protocol.
func (l *twoFaced) sort(c *conn) {
	_ = c.TCPConn.SetReadDeadline(l.now().Add(l.first))
	l.mu.Lock()
	l.silent[c] = struct{}{}
	l.mu.Unlock()
	n, err := c.TCPConn.Read(c.first[:])
	l.mu.Lock()
	delete(l.silent, c)
	l.mu.Unlock()
	if err != nil || n == 0 {
		_ = c.Close()
		return
	}
	_ = c.TCPConn.SetReadDeadline(time.Time{})
	c.buffered.Store(true)
	to, nc := l.plain, net.Conn(c)
	if c.first[0] == recordTypeHandshake && l.tls != nil {
		to, nc = l.secure, tls.Server(c, l.tls)
	}
	select {
	case to.accepted <- nc:
		return
	case <-l.closed:
	}
	// Its request is on the way: it is served as those that came before, unless nobody serves.
	select {
	case to.accepted <- nc:
	case <-time.After(handOverWithin):
		_ = c.Close()
	}
}

// handOverWithin bounds how long a connection that has spoken waits at the end for somebody who serves it.
const handOverWithin = 2 * time.Second

func (l *twoFaced) close() error {
	var err error
	l.once.Do(func() {
		close(l.closed)
		err = l.tcp.Close()
		l.mu.Lock()
		defer l.mu.Unlock()
		for c := range l.silent { // a browser's spare connection must not hold up the end
			_ = c.TCPConn.SetReadDeadline(time.Unix(1, 0))
		}
	})
	return err
}

// half is one of the two listeners that http.Server serves.
type half struct {
	parent   *twoFaced
	accepted chan net.Conn
}

func (h *half) Accept() (net.Conn, error) {
	select {
	case c := <-h.accepted:
		return c, nil
	case <-h.parent.sorted:
		return nil, net.ErrClosed
	}
}

func (h *half) Close() error   { return h.parent.close() }
func (h *half) Addr() net.Addr { return h.parent.tcp.Addr() }
