package main

import (
	"context"
	"time"
)

// look is what a restart showed.
type look struct {
	ready time.Duration
	cpu   time.Duration
	rss   int64
}

// startScenarios restart a target on the store that it has: from exec to the first 200, and what it does in the time after.
func startScenarios(store string) []scenario {
	value := func(get func(look) float64) func(context.Context, *bench, *server, int) (phase, error) {
		return func(ctx context.Context, b *bench, s *server, round int) (phase, error) {
			if round >= len(s.looks) { // else another scenario of this stage looked already
				l, err := s.lookAtStart(ctx, b.size.settle)
				if err != nil {
					return phase{}, err
				}
				s.looks = append(s.looks, l)
			}
			l := s.looks[min(round, len(s.looks)-1)]
			return phase{Value: get(l), Ops: 1, CPU: l.cpu, Peak: l.rss}, nil
		}
	}
	about := " with an empty store"
	if store == "full" {
		about = " with 10,000 repositories and 120,000 tags (dist3, reg2: 30,000)"
	}
	return []scenario{
		{name: "ready-" + store, unit: "ms", lower: true, fits: has(canRestart), about: "exec to the first 200" + about,
			run: value(func(l look) float64 { return float64(l.ready) / float64(time.Millisecond) })},
		{name: "work-after-ready-" + store, unit: "ms CPU", lower: true, fits: has(canRestart), about: "CPU of the first 2 s, start included," + about,
			run: value(func(l look) float64 { return float64(l.cpu) / float64(time.Millisecond) })},
		{name: "idle-rss-" + store, unit: "MiB", lower: true, fits: has(canRestart), about: "resident memory 2 s after the start" + about,
			run: value(func(l look) float64 { return float64(l.rss) / (1 << 20) })},
	}
}

// lookAtStart stops the process and starts it again on the same store.
func (s *server) lookAtStart(ctx context.Context, settle time.Duration) (look, error) {
	if err := s.proc.stop(); err != nil {
		return look{}, err
	}
	if err := s.start(ctx); err != nil {
		return look{}, err
	}
	if err := sleep(ctx, settle); err != nil {
		return look{}, err
	}
	u, err := s.proc.usage()
	return look{ready: s.ready, cpu: u.cpu, rss: u.rss}, err
}
