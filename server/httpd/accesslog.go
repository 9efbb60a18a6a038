package httpd

import (
	"context"
	"io"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// accessFlush is how long a line may wait before it is written.
const accessFlush = 200 * time.Millisecond

// accessBuffer is how many bytes of lines may wait; beyond it lines are dropped and counted. Two such buffers exist.
const accessBuffer = 1 << 20

// AccessLog writes one line per request without ever making a request wait for the disk or the terminal: lines go to a
// bounded buffer in memory, and Run writes it out every 200 ms, when it is half full, and at the end.
type AccessLog struct {
	out  io.Writer
	json bool

	mu      sync.Mutex
	filling []byte
	spare   []byte

	wake    chan struct{}
	dropped atomic.Uint64
}

// NewAccessLog makes an access log in text (logfmt) or JSON. out is written by Run only; when it is shared with the
// process's log it must take whole lines from several goroutines (os.Stderr does).
func NewAccessLog(out io.Writer, asJSON bool) *AccessLog {
	return &AccessLog{out: out, json: asJSON, wake: make(chan struct{}, 1),
		filling: make([]byte, 0, 16<<10), spare: make([]byte, 0, 16<<10)}
}

// Dropped is how many lines were not written because the output was too slow.
func (a *AccessLog) Dropped() uint64 { return a.dropped.Load() }

// Run writes lines until ctx ends and then what is left. It returns the last error of the output, which does not stop
// it: a full log disk must not take the registry down.
func (a *AccessLog) Run(ctx context.Context) error {
	tick := time.NewTicker(accessFlush)
	defer tick.Stop()
	var last error
	var reported uint64
	for {
		done := false
		select {
		case <-ctx.Done():
			done = true
		case <-tick.C:
		case <-a.wake:
		}
		if err := a.flush(); err != nil {
			last = err
		}
		if n := a.dropped.Load(); n != reported {
			_, _ = a.out.Write(a.droppedLine(n - reported))
			reported = n
		}
		if done {
			return last
		}
	}
}

// flush writes what waits. Only Run calls it, so the two buffers are enough.
func (a *AccessLog) flush() error {
	a.mu.Lock()
	full := a.filling
	a.filling, a.spare = a.spare[:0], nil
	a.mu.Unlock()
	var err error
	if len(full) > 0 {
		_, err = a.out.Write(full)
	}
	a.mu.Lock()
	a.spare = full
	a.mu.Unlock()
	return err
}

func (a *AccessLog) droppedLine(n uint64) []byte {
	count := strconv.FormatUint(n, 10)
	if a.json {
		return []byte(`{"level":"WARN","msg":"access log lines dropped","count":` + count + "}\n")
	}
	return []byte(`level=WARN msg="access log lines dropped" count=` + count + "\n")
}

// add takes one line, ending in a newline.
func (a *AccessLog) add(line []byte) {
	a.mu.Lock()
	if len(a.filling)+len(line) > accessBuffer {
		a.mu.Unlock()
		a.dropped.Add(1)
		return
	}
	before := len(a.filling)
	a.filling = append(a.filling, line...)
	half := before < accessBuffer/2 && len(a.filling) >= accessBuffer/2
	a.mu.Unlock()
	if half {
		select {
		case a.wake <- struct{}{}:
		default:
		}
	}
}

// entry is what a line says. Keys are those of the process's log, so that one query finds both.
type entry struct {
	time               time.Time
	method, path, repo string
	status             int
	in, out            int64
	took               time.Duration
	client             netip.Addr
	agent              string
	principal          string
	id, handler        string
	reason             string
	proto              string
}

// append renders the entry behind b.
func (a *AccessLog) append(b []byte, e *entry) []byte {
	w := lineWriter{b: b, json: a.json}
	w.open()
	w.key("time")
	if a.json {
		w.b = append(w.b, '"')
	}
	w.b = e.time.UTC().AppendFormat(w.b, "2006-01-02T15:04:05.000Z07:00")
	if a.json {
		w.b = append(w.b, '"')
	}
	w.word("level", "INFO")
	w.word("msg", "request")
	w.text("req", e.id)
	w.text("method", clip(e.method))
	w.text("path", clip(e.path))
	w.word("proto", e.proto)
	w.number("status", int64(e.status))
	w.number("in", e.in)
	w.number("out", e.out)
	w.millis("ms", e.took)
	w.addr("client", e.client)
	w.text("principal", e.principal)
	w.text("handler", e.handler)
	w.text("repo", e.repo)
	w.text("reason", e.reason)
	w.text("agent", clip(e.agent))
	w.close()
	return w.b
}

// lineWriter appends key-value pairs in one of the two forms. Empty texts are left out.
type lineWriter struct {
	b    []byte
	json bool
	any  bool
}

func (w *lineWriter) open() {
	if w.json {
		w.b = append(w.b, '{')
	}
}

func (w *lineWriter) close() {
	if w.json {
		w.b = append(w.b, '}')
	}
	w.b = append(w.b, '\n')
}

func (w *lineWriter) key(k string) {
	switch {
	case w.json && w.any:
		w.b = append(w.b, ',', '"')
	case w.json:
		w.b = append(w.b, '"')
	case w.any:
		w.b = append(w.b, ' ')
	}
	w.any = true
	w.b = append(w.b, k...)
	if w.json {
		w.b = append(w.b, '"', ':')
	} else {
		w.b = append(w.b, '=')
	}
}

// word is for values that we chose ourselves and that need no quoting in either form.
func (w *lineWriter) word(k, v string) {
	w.key(k)
	if w.json {
		w.b = append(w.b, '"')
	}
	w.b = append(w.b, v...)
	if w.json {
		w.b = append(w.b, '"')
	}
}

// text is for values that a stranger may have chosen.
func (w *lineWriter) text(k, v string) {
	if v == "" {
		return
	}
	w.key(k)
	if w.json || needsQuotes(v) {
		w.b = appendJSON(w.b, v)
		return
	}
	w.b = append(w.b, v...)
}

func (w *lineWriter) number(k string, n int64) {
	w.key(k)
	w.b = strconv.AppendInt(w.b, n, 10)
}

// millis writes milliseconds with microseconds behind the point: 12.345.
func (w *lineWriter) millis(k string, d time.Duration) {
	w.key(k)
	micros := max(d.Microseconds(), 0)
	w.b = strconv.AppendInt(w.b, micros/1000, 10)
	rest := micros % 1000
	w.b = append(w.b, '.', byte('0'+rest/100), byte('0'+rest/10%10), byte('0'+rest%10))
}

func (w *lineWriter) addr(k string, a netip.Addr) {
	if !a.IsValid() {
		return
	}
	w.key(k)
	if w.json {
		w.b = append(w.b, '"')
	}
	w.b = a.AppendTo(w.b)
	if w.json {
		w.b = append(w.b, '"')
	}
}

func needsQuotes(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c == '"' || c == '=' || c == '\\' || c >= utf8.RuneSelf || c == 0x7f {
			return true
		}
	}
	return false
}
