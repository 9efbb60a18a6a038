package main

import (
	"context"
	"sync"
	"sync/atomic"
)

const pullsPerRound = 3

// largeScenarios move one large blob, one stream.
func largeScenarios(suffix string) []scenario {
	return []scenario{
		{name: "push-large" + suffix, unit: "MB/s", fits: has(canPush), about: "push of a 1 GiB blob, one stream", run: runPushLarge},
		{name: "pull-large" + suffix, unit: "MB/s", fits: anyOf(canPull | canFile), about: "pull of a 1 GiB blob, one stream", run: runPullLarge},
	}
}

func runPushLarge(_ context.Context, b *bench, s *server, _ int) (phase, error) {
	l := b.large()
	s.holdsLarge = true
	return once(s, l.size, func(c *client) error { return c.pushLarge(repoLarge, l) })
}

func runPullLarge(_ context.Context, b *bench, s *server, _ int) (phase, error) {
	l := b.large()
	if s.can&canPush != 0 && !s.holdsLarge {
		if err := s.with(func(c *client) error { return c.pushLarge(repoLarge, l) }); err != nil {
			return phase{}, err
		}
	}
	r := newRequest(s.launch.addr, "GET", blobPath(repoLarge, l.digest), "", 200, l.size)
	return once(s, pullsPerRound*l.size, func(c *client) error {
		for range pullsPerRound {
			if err := c.run(&r); err != nil {
				return err
			}
		}
		return nil
	})
}

// once measures one operation over a number of bytes, in MB (10⁶) per second.
func once(s *server, bytes int64, op func(c *client) error) (phase, error) {
	c := s.client()
	defer c.close()
	if err := c.dial(); err != nil {
		return phase{}, err
	}
	m, err := startMeter(s)
	if err != nil {
		return phase{}, err
	}
	if err := op(c); err != nil {
		return phase{}, err
	}
	p := phase{Ops: 1, Bytes: bytes}
	err = m.stop(&p)
	p.Value = float64(bytes) / 1e6 / p.Wall.Seconds()
	return p, err
}

// memoryScenarios look at memory under many large transfers at once.
func memoryScenarios() []scenario {
	return []scenario{{name: "peak-rss-64", unit: "MiB", lower: true, fits: has(canPull | canPush), run: runMemory,
		about: "peak RSS while 64 layers of 24 MiB are pushed and 64 connections pull such layers"}}
}

func runMemory(ctx context.Context, b *bench, s *server, _ int) (phase, error) {
	if b.layers == nil {
		for i := range b.size.layers + 1 {
			b.layers = append(b.layers, newLarge(b.size.layer, seedLayers+uint64(i)))
		}
	}
	pulled := b.layers[b.size.layers]
	if err := s.with(func(c *client) error { return c.pushLarge(repoLarge, pulled) }); err != nil {
		return phase{}, err
	}
	m, err := startMeter(s)
	if err != nil {
		return phase{}, err
	}
	r := newRequest(s.launch.addr, "GET", blobPath(repoLarge, pulled.digest), "", 200, pulled.size)
	var pushed atomic.Int64
	errs := make([]error, 2*b.size.layers)
	var wg sync.WaitGroup
	for i := range b.size.layers {
		wg.Go(func() {
			errs[2*i] = s.with(func(c *client) error { return c.pushLarge(repoLarge, b.layers[i]) })
			pushed.Add(1)
		})
		wg.Go(func() {
			errs[2*i+1] = s.with(func(c *client) error {
				for pushed.Load() < int64(b.size.layers) && ctx.Err() == nil {
					if err := c.run(&r); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	wg.Wait()
	p := phase{Ops: int64(b.size.layers)}
	if err := m.stop(&p); err != nil {
		return p, err
	}
	for _, err := range errs {
		if err != nil {
			return p, err
		}
	}
	p.Value = float64(p.Peak) / (1 << 20)
	return p, nil
}
