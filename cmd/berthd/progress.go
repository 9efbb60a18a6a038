package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// jobView is a job as /api/v1/jobs shows it.
type jobView struct {
	ID       int64     `json:"id"`
	Kind     string    `json:"kind"`
	State    string    `json:"state"` // scheduled, queued, running, succeeded, dead, cancelled
	Attempt  int       `json:"attempt"`
	Attempts int       `json:"maxAttempts"`
	Worker   string    `json:"worker"`
	Done     int64     `json:"done"`
	Total    int64     `json:"total"` // 0 while it is not known
	Note     string    `json:"note"`
	Error    string    `json:"error"` // of the last attempt that failed
	Cancel   bool      `json:"cancelling"`
	RunAt    time.Time `json:"runAt"`
	Created  time.Time `json:"createdAt"`
	Started  time.Time `json:"startedAt,omitzero"`
	Ended    time.Time `json:"endedAt,omitzero"`
}

// progress says how far a job is.
type progress struct {
	w        io.Writer
	terminal bool
	now      func() time.Time
	last     string
	at       time.Time
}

func (p *progress) show(j jobView) {
	text := fmt.Sprintf("%s: %s", j.Kind, j.State)
	switch {
	case j.Total > 0:
		text += fmt.Sprintf(" %d of %d (%d %%)", j.Done, j.Total, 100*j.Done/j.Total)
	case j.Done > 0:
		text += fmt.Sprintf(" %d", j.Done)
	}
	if j.Note != "" {
		text += ", " + j.Note
	}
	if j.State == "scheduled" && j.Error != "" { // people who wait want to know what for
		text += fmt.Sprintf("; attempt %d of %d failed, the next is at %s: %s", j.Attempt, j.Attempts, moment(j.RunAt), j.Error)
		p.at = time.Time{}
	}
	if text == p.last || !p.terminal && p.last != "" && p.now().Sub(p.at) < 10*time.Second {
		return
	}
	if p.terminal {
		pad := max(len(p.last)-len(text), 0)
		_, _ = fmt.Fprint(p.w, "\r"+text+strings.Repeat(" ", pad))
	} else {
		_, _ = fmt.Fprintln(p.w, text)
	}
	p.last, p.at = text, p.now()
}

// end leaves the line.
func (p *progress) end() {
	if p.terminal && p.last != "" {
		_, _ = fmt.Fprintln(p.w)
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
