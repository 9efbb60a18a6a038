package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
)

// The forms a log can have.
const (
	Text = "text" // key=value pairs, for people
	JSON = "json" // one object a line, for machines
)

// LogOptions describes the log.
type LogOptions struct {
	Format string            // Text or JSON; "" is Text
	Level  string            // debug, info, warn, error; "" is info
	Fields map[string]string // constant attributes of every line
}

// Log is the process's log with a level that can be changed while it runs.
type Log struct {
	*slog.Logger
	level *slog.LevelVar
}

// NewLogger makes a log that writes whole lines to out. out is written by one goroutine at a time.
func NewLogger(out io.Writer, o LogOptions) (*Log, error) {
	level := new(slog.LevelVar)
	if err := setLevel(level, o.Level); err != nil {
		return nil, err
	}
	options := &slog.HandlerOptions{Level: level}
	var handler slog.Handler
	switch o.Format {
	case "", Text:
		handler = slog.NewTextHandler(out, options)
	case JSON:
		handler = slog.NewJSONHandler(out, options)
	default:
		return nil, fmt.Errorf("log format %q is unknown; use text or json", o.Format)
	}
	var fields []slog.Attr
	for _, name := range slices.Sorted(maps.Keys(o.Fields)) { // sorted: the same line looks the same after a restart
		fields = append(fields, slog.String(name, o.Fields[name]))
	}
	if len(fields) > 0 {
		handler = handler.WithAttrs(fields)
	}
	return &Log{Logger: slog.New(handler), level: level}, nil
}

// SetLevel changes the level of this log and of every logger made from it, at once. An unknown name changes nothing.
func (l *Log) SetLevel(name string) error { return setLevel(l.level, name) }

// Level names the level in use.
func (l *Log) Level() string { return strings.ToLower(l.level.Level().String()) }

// Verbose reports whether debug lines are written.
func (l *Log) Verbose() bool { return l.Enabled(context.Background(), slog.LevelDebug) }

func setLevel(v *slog.LevelVar, name string) error {
	switch strings.ToLower(name) {
	case "debug", "trace": // distribution's grammar has trace; its finest is our debug
		v.Set(slog.LevelDebug)
	case "", "info":
		v.Set(slog.LevelInfo)
	case "warn", "warning":
		v.Set(slog.LevelWarn)
	case "error", "fatal", "panic":
		v.Set(slog.LevelError)
	default:
		return fmt.Errorf("log level %q is unknown; use debug, info, warn or error", name)
	}
	return nil
}
