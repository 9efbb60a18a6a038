package output_test

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/cli/output"
)

// A line of a bar takes one line of the terminal, however narrow: one that wraps would not be painted over.
func TestBarsFit(t *testing.T) {
	escape := regexp.MustCompile("\x1b\\[[0-9]*[A-Z]")
	for _, lang := range []output.Language{output.English, output.Chinese} {
		for _, width := range []int{8, 20, 30, 39, 40, 80, 200} {
			var b strings.Builder
			now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			p := output.NewProgress(&b, "bar", true, width, lang, func() time.Time { now = now.Add(150 * time.Millisecond); return now })
			p.Start("a", "sha256:c23bc236b5f0", 123_456_789)
			p.Start("b", "c23bc236b5f0", 2_101_062)
			p.Start("c", "unknown", -1)
			for i := range int64(10) {
				p.Move("a", i*10_000_000)
				p.Move("b", i*200_000)
				p.Move("c", i*1000)
			}
			p.Skip("d", "2974ad3e6651", 5, "mounted from team/a-repository-with-a-long-name 已挂载自其他仓库")
			p.Done("b")
			lines := 0
			for line := range strings.Lines(b.String()) {
				text := strings.TrimSuffix(escape.ReplaceAllString(line, ""), "\n")
				if n := output.Width(text); n >= width {
					t.Fatalf("%s, %d columns: %q takes %d", lang, width, text, n)
				}
				if m := regexp.MustCompile("^\x1b\\[([0-9]+)A").FindStringSubmatch(line); m != nil {
					up, _ := strconv.Atoi(m[1])
					if up != lines {
						t.Fatalf("%d columns: back %d lines of %d", width, up, lines)
					}
					lines = 0
				}
				lines++
			}
			if width == 30 && !strings.Contains(b.String(), "c23bc236b5f0  38%") {
				t.Errorf("%s: nothing says how far it is: %q", lang, b.String())
			}
			if width == 80 && !strings.Contains(b.String(), "[==") {
				t.Errorf("%s: no bar", lang)
			}
		}
	}
}

// While a transfer runs, nobody knows what is yet to come: a line says so. The last one is exact.
func TestTotalsBeforeTheEnd(t *testing.T) {
	var b bytes.Buffer
	now := time.Unix(1000, 0)
	p := output.NewProgress(&b, "plain", false, 0, output.English, func() time.Time { return now })
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
