package output

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/berth-registry/berth/internal/legible"
)

// plainEvery is how often a line comes when nobody sees bars.
const plainEvery = 5 * time.Second

// Progress shows what moves: a bar for each item on a terminal, a line now and then elsewhere, or an event a line as
// JSON. An item is a blob, named by its digest. Safe for concurrent use.
type Progress struct {
	mu    sync.Mutex
	w     io.Writer
	mode  string
	width int
	lang  Language
	now   func() time.Time

	began, drawn, said time.Time
	order              []string
	items              map[string]*item
	lines              int // of bars on the terminal
}

type item struct {
	label      string
	size, done int64
	from       int64  // where an interrupted one goes on: so much was sent by an earlier run
	note       string // why it did not move: "already there", "mounted from team/base"
	ended      bool
	began      time.Time
}

// NewProgress makes one. mode is that of --progress: auto is bar on a terminal and plain elsewhere. width is that of the
// terminal, 0 when it is unknown.
func NewProgress(w io.Writer, mode string, terminal bool, width int, l Language, now func() time.Time) *Progress {
	if mode == "auto" {
		mode = "plain"
		if terminal {
			mode = "bar"
		}
	}
	if width <= 0 {
		width = 80
	}
	t := now()
	return &Progress{w: w, mode: mode, width: width, lang: l, now: now, began: t, said: t, items: map[string]*item{}}
}

// Event is a line of --progress json.
type Event struct {
	Version int     `json:"version"` // of this form: 1
	Event   string  `json:"event"`   // started, progress, done, skipped, summary
	ID      string  `json:"id,omitempty"`
	Label   string  `json:"label,omitempty"`
	Size    int64   `json:"size,omitempty"`
	Done    int64   `json:"done,omitempty"`
	Note    string  `json:"note,omitempty"`
	Seconds float64 `json:"seconds"`
}

// Start begins an item. size is -1 when it is unknown.
func (p *Progress) Start(id, label string, size int64) {
	p.change("started", id, label, size, 0, "")
}

// Move says how many bytes of an item are done.
func (p *Progress) Move(id string, done int64) { p.change("progress", id, "", 0, done, "") }

// Resume says that an earlier run brought this many bytes of an item: they are done, and were not sent now.
func (p *Progress) Resume(id string, at int64) {
	p.mu.Lock()
	if i := p.items[id]; i != nil {
		i.from = at
	}
	p.mu.Unlock()
	p.change("progress", id, "", 0, at, "")
}

// Done ends an item whose bytes moved.
func (p *Progress) Done(id string) { p.change("done", id, "", 0, 0, "") }

// Skip ends an item that need not move, with the reason.
func (p *Progress) Skip(id, label string, size int64, note string) {
	p.change("skipped", id, label, size, 0, note)
}

func (p *Progress) change(event, id, label string, size, done int64, note string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.items[id]
	if i == nil {
		i = &item{label: legible.Show(label), size: size, began: p.now()}
		p.items[id] = i
		p.order = append(p.order, id)
	}
	switch event {
	case "progress":
		i.done = max(i.done, done)
	case "done":
		i.ended = true
		i.size = max(i.size, i.done)
		i.done = i.size
	case "skipped":
		i.ended, i.note = true, legible.Show(note)
	}
	p.tell(event, id, i)
}

func (p *Progress) tell(event, id string, i *item) {
	t := p.now()
	switch p.mode {
	case "json":
		if event == "progress" && t.Sub(p.drawn) < 100*time.Millisecond {
			return
		}
		p.drawn = t
		p.event(Event{Event: event, ID: id, Label: i.label, Size: i.size, Done: i.done, Note: i.note})
	case "bar":
		if event == "progress" && t.Sub(p.drawn) < 100*time.Millisecond {
			return
		}
		p.draw(t)
	case "plain":
		switch {
		case event == "skipped":
			p.line("%s  %s", i.label, i.note)
		case event == "done":
			p.line("%s  %s", i.label, Bytes(i.size))
		case event == "progress" && t.Sub(p.said) >= plainEvery:
			p.said = t
			p.line("%s", p.sum(p.lang.Pick("%d of at least %d blobs, %s of at least %s sent, %.1f s (%s/s)", "%d / 至少 %d 个 blob，已传 %s / 至少 %s，%.1f 秒（%s/s）")))
		}
	}
}

func (p *Progress) event(e Event) {
	e.Version, e.Seconds = 1, p.now().Sub(p.began).Seconds()
	b, err := json.Marshal(e)
	if err == nil {
		_, _ = p.w.Write(append(b, '\n'))
	}
}

func (p *Progress) line(format string, args ...any) {
	_, _ = fmt.Fprintf(p.w, format+"\n", args...)
}

// draw paints all bars anew over those of before.
func (p *Progress) draw(t time.Time) {
	p.drawn = t
	var b strings.Builder
	if p.lines > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", p.lines)
	}
	const most = 20 // lines; what ended long ago goes first
	shown := p.order
	if len(shown) > most {
		shown = shown[len(shown)-most:]
	}
	for _, id := range shown {
		fmt.Fprintf(&b, "\x1b[2K%s\n", p.bar(p.items[id], t))
	}
	p.lines = len(shown)
	_, _ = io.WriteString(p.w, b.String())
}

// bar is one line: what it is, how far, how fast, how long yet. It leaves the last cell of the terminal free: a line that wraps would
// be two, and the next drawing would not find its place.
func (p *Progress) bar(i *item, t time.Time) string {
	room := p.width - 1
	if i.note != "" {
		return fit(i.label+"  "+i.note, room)
	}
	if i.ended {
		return fit(i.label+"  "+Bytes(i.size)+"  "+p.lang.Pick("done", "完成"), room)
	}
	line := p.moving(i, t)
	if Width(line) > room && i.size > 0 { // no room for figures
		line = fmt.Sprintf("%s  %d%%", i.label, 100*i.done/i.size)
	}
	return fit(line, room)
}

// fit is a text in so many cells, with a sign at its end when something is missing.
func fit(s string, cells int) string {
	if Width(s) <= cells {
		return s
	}
	used := 1 // of the sign
	for i, r := range s {
		if used += Width(string(r)); used > cells {
			return s[:i] + "…"
		}
	}
	return s
}

func (p *Progress) moving(i *item, t time.Time) string {
	tail := Bytes(i.done)
	speed := float64(i.done-i.from) / max(t.Sub(i.began).Seconds(), 0.001)
	if i.size > 0 {
		tail += " / " + Bytes(i.size)
	}
	if i.done > i.from {
		tail += "  " + Bytes(int64(speed)) + "/s"
		if i.size > i.done && speed > 1 {
			tail += fmt.Sprintf("  %s %s", p.lang.Pick("ETA", "剩余"), time.Duration(float64(i.size-i.done)/speed*float64(time.Second)).Round(time.Second))
		}
	}
	room := p.width - Width(i.label) - Width(tail) - 7
	if room < 8 || i.size <= 0 {
		return i.label + "  " + tail
	}
	room = min(room, 40)
	full := int(float64(room) * float64(i.done) / float64(i.size))
	return i.label + "  [" + strings.Repeat("=", full) + strings.Repeat(" ", room-full) + "]  " + tail
}

// Summary ends the progress with one line, such as
// "copied 3 of 11 layers, 41 MB of 380 MB sent, 12.3 s (27.6 MB/s)". verb is in the user's language.
func (p *Progress) Summary(verb string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.order) == 0 || p.mode == "none" {
		return
	}
	if p.mode == "json" {
		e := Event{Event: "summary", Note: verb + " " + p.sum(p.all())}
		for _, i := range p.items {
			e.Size += max(i.size, 0)
			e.Done += i.done - i.from
		}
		p.event(e)
		return
	}
	if p.mode == "bar" {
		p.draw(p.now())
	}
	p.line("%s %s", verb, p.sum(p.all()))
}

// all is the form of a sum at the end, when every item is known. Before, more may come.
func (p *Progress) all() string {
	return p.lang.Pick("%d of %d blobs, %s of %s sent, %.1f s (%s/s)", "%d / %d 个 blob，已传 %s / %s，%.1f 秒（%s/s）")
}

func (p *Progress) sum(form string) string {
	var moved int
	var size, done int64
	for _, i := range p.items {
		size += max(i.size, 0)
		done += i.done - i.from
		if i.note == "" {
			size -= i.from
		}
		if i.ended && i.note == "" {
			moved++
		}
	}
	seconds := p.now().Sub(p.began).Seconds()
	return fmt.Sprintf(form,
		moved, len(p.order), Bytes(done), Bytes(size), seconds, Bytes(int64(float64(done)/max(seconds, 0.001))))
}

// Bytes is a size for people, in powers of ten: 41.2 MB.
func Bytes(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", max(n, 0))
	}
	size := float64(n)
	for _, unit := range []string{"kB", "MB", "GB", "TB"} {
		if size /= 1000; size < 999.95 || unit == "TB" {
			return fmt.Sprintf("%.1f %s", size, unit)
		}
	}
	return ""
}
