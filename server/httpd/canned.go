package httpd

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// net/http answers what it cannot parse before any handler runs, in plain text and always in this form. Clients of a
// registry expect an OCI error even then, so the answer is replaced on its way out, on plain connections only: under
// TLS it is already encrypted when we see it.

const cannedHead = "HTTP/1.1 "
const cannedMiddle = "\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"

// canned returns what to send instead of b. It never touches bytes of a handler's answer: those are written while
// answering is set.
func (c *conn) canned(b []byte) ([]byte, bool) {
	if c.answering.Load() || len(b) > 512 || !bytes.HasPrefix(b, []byte(cannedHead)) {
		return nil, false
	}
	head, text, found := bytes.Cut(b, []byte(cannedMiddle))
	if !found || len(head) < len(cannedHead)+4 || (head[len(cannedHead)] != '4' && head[len(cannedHead)] != '5') {
		return nil, false
	}
	if head[len(cannedHead)] == '5' { // unknown transfer encoding or HTTP version: the caller's mistake, not a fault of ours
		head = []byte(cannedHead + "400 Bad Request")
	}
	status := string(head[len(cannedHead):])
	code, message := "UNSUPPORTED", "the request cannot be read: "+strings.TrimSpace(string(text))
	if strings.HasPrefix(status, "431") {
		code, message = "SIZE_INVALID", "the request's header is too large; at most "+strconv.Itoa(maxHeader)+" bytes are accepted"
	}
	body := append([]byte(nil), `{"errors":[{"code":`...)
	body = appendJSON(body, code)
	body = append(body, `,"message":`...)
	body = appendJSON(body, message)
	body = append(body, "}]}\n"...)
	out := make([]byte, 0, 512)
	out = append(out, head...)
	out = append(out, "\r\nContent-Type: application/json\r\nDocker-Distribution-Api-Version: registry/2.0\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\nContent-Length: "...)
	out = strconv.AppendInt(out, int64(len(body)), 10)
	out = append(out, "\r\n\r\n"...)
	return append(out, body...), true
}

type connKey struct{}

// connContext and connState tell the connection when a handler has it.
func connContext(ctx context.Context, nc net.Conn) context.Context {
	switch c := nc.(type) {
	case *conn:
		return context.WithValue(ctx, connKey{}, c)
	case *tls.Conn:
		return context.WithValue(ctx, connKey{}, c.NetConn())
	case *peerConn:
		return WithPeer(ctx, c.peer)
	}
	return ctx
}

func connState(nc net.Conn, state http.ConnState) {
	if state != http.StateIdle {
		return
	}
	if secure, ok := nc.(*tls.Conn); ok {
		nc = secure.NetConn()
	}
	if c, ok := nc.(*conn); ok {
		c.unread.Store(false)
		c.answering.Store(false) // the answer is out; what net/http writes next without a handler is canned
	}
}

// answering marks the start of a handler on a plain connection.
func answering(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil {
			if c, ok := r.Context().Value(connKey{}).(*conn); ok {
				c.answering.Store(true)
			}
		}
		next.ServeHTTP(w, r)
	})
}
