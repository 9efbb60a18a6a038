package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Freshness is how old a check's result may be: many probes a second cost one check.
const Freshness = time.Second

// Health knows whether the parts of the process work. Live asks nothing but the process itself; Ready asks every part.
// It is safe for concurrent use.
type Health struct {
	log *slog.Logger
	now func() time.Time

	mu       sync.Mutex
	checks   []*check
	draining bool
}

type check struct {
	name    string
	timeout time.Duration
	ask     func(context.Context) error

	mu      sync.Mutex // held while asking: concurrent probes share one question
	asked   time.Time
	err     error
	failing bool // for the log: a change is a line, a state is not
}

// Status is one part's state. The public may see Name and OK; why a part does not work, and when it was asked, is for who
// runs the registry.
type Status struct {
	Name    string
	OK      bool
	Err     error
	AskedAt time.Time
}

// Report is the state of all parts. OK is true when every part works and the process is not draining.
type Report struct {
	OK       bool
	Draining bool
	Checks   []Status
}

// NewHealth makes an empty registry of checks: it is ready. Failures' causes also go to log.
func NewHealth(log *slog.Logger, now func() time.Time) *Health {
	return &Health{log: log, now: now}
}

// Register adds a part. ask is called at most once per Freshness and never concurrently with itself; its context ends
// after timeout. Registering happens before the server runs.
func (h *Health) Register(name string, timeout time.Duration, ask func(context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks = append(h.checks, &check{name: name, timeout: timeout, ask: ask})
}

// Drain makes Ready say no from now on, so that a load balancer sends no new work while open requests end.
func (h *Health) Drain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.draining = true
}

// Draining says whether Drain was called: what waits for a caller's sake ends then.
func (h *Health) Draining() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.draining
}

// Ready asks every part, all at the same time, and returns when the slowest has answered or run into its timeout.
func (h *Health) Ready(ctx context.Context) Report {
	h.mu.Lock()
	checks, draining := h.checks, h.draining
	h.mu.Unlock()

	report := Report{OK: !draining, Draining: draining, Checks: make([]Status, len(checks))}
	var wait sync.WaitGroup
	for i, c := range checks {
		wait.Go(func() { report.Checks[i] = h.ask(ctx, c) })
	}
	wait.Wait()
	for _, s := range report.Checks {
		report.OK = report.OK && s.OK
	}
	return report
}

func (h *Health) ask(ctx context.Context, c *check) Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.asked.IsZero() && h.now().Sub(c.asked) < Freshness {
		return c.status()
	}
	// The probe's own patience must not decide what the next probe reads for a second.
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.timeout)
	defer cancel()
	c.err = guarded(limited, c.ask)
	c.asked = h.now()
	if failing := c.err != nil; failing != c.failing {
		c.failing = failing
		if failing {
			h.log.Error("health check failed", "check", c.name, "error", c.err)
		} else {
			h.log.Info("health check works again", "check", c.name)
		}
	}
	return c.status()
}

func (c *check) status() Status { return Status{c.name, c.err == nil, c.err, c.asked} }

// guarded returns when ask does or when its time is over: a part that hangs is a part that does not work, and the probe
// must hear that in time. The goroutine of a hung ask lives as long as ask ignores its context.
func guarded(ctx context.Context, ask func(context.Context) error) error {
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- fmt.Errorf("health check panicked: %v", p)
			}
		}()
		done <- ask(ctx)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errors.New("no answer in time")
	}
}
