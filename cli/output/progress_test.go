package output

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// While a transfer runs, nobody knows what is yet to come: a line says so. The last one is exact.
func TestTotalsBeforeTheEnd(t *testing.T) {
	var b bytes.Buffer
	now := time.Unix(1000, 0)
	p := NewProgress(&b, "plain", false, 0, English, func() time.Time { return now })
	p.Start("a", "a", 4_000_000)
	now = now.Add(6 * time.Second)
	p.Move("a", 3_000_000)
	p.Start("b", "b", 2_000_000)
	p.Skip("c", "c", 1_000_000, "already there")
	p.Move("a", 4_000_000)
	p.Done("a")
	p.Move("b", 2_000_000)
	p.Done("b")
	p.Summary("copied")
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if want := "0 of at least 1 blobs, 3.0 MB of at least 4.0 MB sent, 6.0 s (500.0 kB/s)"; lines[0] != want {
		t.Errorf("on the way: %q, want %q", lines[0], want)
	}
	if want := "copied 2 of 3 blobs, 6.0 MB of 7.0 MB sent, 6.0 s (1.0 MB/s)"; lines[len(lines)-1] != want {
		t.Errorf("at the end: %q, want %q", lines[len(lines)-1], want)
	}
}
