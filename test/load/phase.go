package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// phase is what one run of one scenario against one target showed.
type phase struct {
	Round int           `json:"round"`
	Value float64       `json:"value"` // in the scenario's unit
	Ops   int64         `json:"ops"`
	Bytes int64         `json:"bytes,omitempty"` // only where a figure per GB is of interest
	Wall  time.Duration `json:"wallNanoseconds"`
	P50   time.Duration `json:"p50Nanoseconds,omitempty"`
	P95   time.Duration `json:"p95Nanoseconds,omitempty"`
	P99   time.Duration `json:"p99Nanoseconds,omitempty"`
	CPU   time.Duration `json:"serverCPUNanoseconds"`
	// Behind is what PostgreSQL and the S3 server behind a berthd used.
	Behind time.Duration `json:"behindCPUNanoseconds,omitempty"`
	Peak   int64         `json:"peakRSSBytes"`
	Own    time.Duration `json:"generatorCPUNanoseconds"`
	Other  float64       `json:"otherCores"` // processors that neither server nor generator kept busy: noise
}

// cpuPerOp is server CPU in milliseconds per operation; cpuPerGB in seconds per 10⁹ bytes.
func (p phase) cpuPerOp() float64 {
	if p.Ops == 0 {
		return 0
	}
	return p.CPU.Seconds() * 1000 / float64(p.Ops)
}

func (p phase) cpuPerGB() float64 {
	if p.Bytes == 0 {
		return 0
	}
	return p.CPU.Seconds() / (float64(p.Bytes) / 1e9)
}

// cost is the one of the two that the scenario is about.
func (p phase) cost() float64 {
	if p.Bytes > 0 {
		return p.cpuPerGB()
	}
	return p.cpuPerOp()
}

// behind is the same for what is behind the server.
func (p phase) behind() float64 {
	p.CPU = p.Behind
	return p.cost()
}

// meter measures a server's use of the machine between two moments.
type meter struct {
	s       *server
	began   time.Time
	server  time.Duration
	behind  time.Duration
	own     time.Duration
	machine time.Duration
}

func startMeter(s *server) (*meter, error) {
	for _, p := range s.processes() {
		p.resetPeak()
	}
	u, err := s.usage()
	if err != nil {
		return nil, err
	}
	behind, err := s.on.cpu()
	if err != nil {
		return nil, err
	}
	return &meter{s: s, server: u.cpu, behind: behind, own: ownCPU(), machine: machineCPU(), began: time.Now()}, nil
}

// stop fills everything of p that the meter knows.
func (m *meter) stop(p *phase) error {
	p.Wall = time.Since(m.began)
	u, err := m.s.usage()
	if err != nil {
		return err
	}
	behind, err := m.s.on.cpu()
	if err != nil {
		return err
	}
	p.CPU, p.Behind, p.Peak, p.Own = u.cpu-m.server, behind-m.behind, u.peak, ownCPU()-m.own
	p.Other = max(0, (machineCPU()-m.machine-p.CPU-p.Behind-p.Own).Seconds()/p.Wall.Seconds())
	return nil
}

// load is how a phase is driven.
type load struct {
	workers int
	limit   time.Duration // no operation starts later
	maxOps  int64         // no more than these; 0: any
}

// work is one operation: n counts over all workers of the phase from 0.
type work func(c *client, worker int, n int64) error

// drive runs op from l.workers connections and reports operations per second. The connections stand before the clock runs.
func drive(ctx context.Context, s *server, l load, op work) (phase, error) {
	clients := make([]*client, l.workers)
	for i := range clients {
		clients[i] = s.clientOf(i)
		defer clients[i].close()
		if err := clients[i].dial(); err != nil {
			return phase{}, err
		}
	}
	var next atomic.Int64
	var halt atomic.Bool
	defer context.AfterFunc(ctx, func() { halt.Store(true) })()
	m, err := startMeter(s)
	if err != nil {
		return phase{}, err
	}
	deadline := m.began.Add(l.limit)
	errs := make([]error, l.workers)
	took := make([][]time.Duration, l.workers)
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			now := time.Now()
			for now.Before(deadline) && !halt.Load() {
				n := next.Add(1) - 1
				if l.maxOps > 0 && n >= l.maxOps {
					return
				}
				if errs[i] = op(clients[i], i, n); errs[i] != nil {
					halt.Store(true)
					return
				}
				then := now
				now = time.Now()
				took[i] = append(took[i], now.Sub(then))
			}
		})
	}
	wg.Wait()
	var p phase
	if err := m.stop(&p); err != nil {
		return p, err
	}
	for _, err := range errs {
		if err != nil {
			return p, err
		}
	}
	if err := context.Cause(ctx); err != nil {
		return p, err
	}
	var all []time.Duration
	for _, t := range took {
		all = append(all, t...)
	}
	p.Ops = int64(len(all))
	p.P50, p.P95, p.P99 = quantile(all, 0.5), quantile(all, 0.95), quantile(all, 0.99)
	p.Value = float64(p.Ops) / p.Wall.Seconds()
	return p, nil
}

// hot repeats prepared requests, each connection from its own place in the list.
func hot(ctx context.Context, s *server, conns int, limit time.Duration, requests []request) (phase, error) {
	return drive(ctx, s, load{workers: conns, limit: limit}, func(c *client, _ int, n int64) error {
		return c.run(&requests[mix(uint64(n))%uint64(len(requests))])
	})
}

// each runs op for 0 … n-1 from several connections and without a clock: to prepare a store.
func each(ctx context.Context, s *server, workers int, n int, op func(c *client, n int) error) error {
	p, err := drive(ctx, s, load{workers: workers, limit: time.Hour, maxOps: int64(n)}, func(c *client, _ int, i int64) error { return op(c, int(i)) })
	if err == nil && p.Ops != int64(n) {
		err = fmt.Errorf("prepared %d of %d", p.Ops, n)
	}
	return err
}
