package hostile_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// request is what goes over the wire, unless raw says it all.
type request struct {
	method, target string   // target as it stands in the request line, encoded or not
	header         []string // whole lines
	body           []byte   // with its Content-Length, unless header has one or an encoding
	raw            string   // the whole request instead
	allow          allow
}

// allow says which answers are right.
type allow uint8

const (
	refused allow = iota // 4xx in the specification's form
	any4xx               // refused, or an answer: the request turns out to mean something
	gone                 // also text, 501 or a closed connection: the request is no HTTP, and net/http answers it
)

func (q request) bytes() []byte {
	if q.raw != "" {
		return []byte(q.raw)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n", q.method, q.target)
	framed := false
	for _, line := range q.header {
		b.WriteString(line + "\r\n")
		lower := strings.ToLower(line)
		framed = framed || strings.HasPrefix(lower, "content-length:") || strings.HasPrefix(lower, "transfer-encoding:")
	}
	if !framed && (q.body != nil || q.method == http.MethodPut || q.method == http.MethodPost || q.method == http.MethodPatch) {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(q.body))
	}
	b.WriteString("\r\n")
	b.Write(q.body)
	return b.Bytes()
}

// answer is what came back; closed says that nothing did.
type answer struct {
	status int
	header http.Header
	body   []byte
	closed bool
}

// send sends one request on a connection of its own.
func send(addr string, q request) (answer, error) {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return answer{}, err
	}
	// A server that refuses early may stop reading; what it said is read all the same.
	sent := make(chan struct{})
	go func() {
		_, _ = conn.Write(q.bytes())
		close(sent)
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: q.method})
	if err != nil {
		if q.allow == gone {
			return answer{closed: true}, nil
		}
		return answer{}, fmt.Errorf("no answer: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil {
		return answer{}, fmt.Errorf("answer broke off: %w", err)
	}
	conn.Close()
	<-sent
	return answer{status: resp.StatusCode, header: resp.Header, body: body}, nil
}

// must sends a request that is right and fails the test when it is refused.
func must(t *testing.T, addr string, want int, q request) answer {
	t.Helper()
	a, err := send(addr, q)
	if err != nil {
		t.Fatalf("%s %s: %v", q.method, q.target, err)
	}
	if a.status != want {
		t.Fatalf("%s %s: %d, want %d: %s", q.method, q.target, a.status, want, a.body)
	}
	return a
}
