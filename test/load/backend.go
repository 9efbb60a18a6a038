package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// below is what the berthds of a stage stand on.
type below struct {
	postgres bool
	objects  string // make of S3 server, a program of test/setup/peers.txt; "": none
}

// backends are the running servers of a stage's below. PostgreSQL is one for the whole run, the S3 server one for the stage;
// each berthd has its own database and bucket in them. No backends are nil.
type backends struct {
	postgres *postgres
	objects  *objects
}

// startBackends starts what is not there yet. A program that is not installed is an error that says so.
func (b *bench) startBackends(ctx context.Context, want below) (on *backends, err error) {
	if want == (below{}) {
		return nil, nil
	}
	on = &backends{}
	if want.postgres {
		if b.postgres == nil {
			if b.postgres, err = startPostgres(ctx, b.disk); err != nil {
				return nil, err
			}
		}
		on.postgres = b.postgres
	}
	if want.objects != "" {
		if on.objects, err = startObjects(ctx, want.objects, b.disk.dir, b.size.large); err != nil {
			return nil, err
		}
	}
	return on, nil
}

// stop ends what belongs to the stage and empties what does not.
func (on *backends) stop(ctx context.Context) error {
	if on == nil {
		return nil
	}
	var errs []error
	if on.objects != nil {
		errs = append(errs, on.objects.stop())
	}
	if on.postgres != nil {
		errs = append(errs, on.postgres.dropAll(ctx))
	}
	return errors.Join(errs...)
}

func (on *backends) processes() []*process {
	var ps []*process
	if on != nil && on.postgres != nil {
		ps = append(ps, on.postgres.proc)
	}
	if on != nil && on.objects != nil {
		ps = append(ps, on.objects.proc)
	}
	return ps
}

// cpu is what they used since their start.
func (on *backends) cpu() (time.Duration, error) {
	var sum time.Duration
	for _, p := range on.processes() {
		u, err := p.usage()
		if err != nil {
			return 0, fmt.Errorf("a server behind berthd ended: %w: %s", err, p.logTail())
		}
		sum += u.cpu
	}
	return sum, nil
}

// startBerthd starts a berthd on a new database, and a new bucket where there is an S3 server, and count-1 more on the same two.
func startBerthd(ctx context.Context, b *bench, t *target, on *backends, count int, env ...string) (*server, error) {
	var first *server
	space, dsn, err := on.postgres.create(ctx)
	if err != nil {
		return nil, err
	}
	env = append(env, "BERTH_DATABASE="+dsn)
	if on.objects != nil {
		if err := on.objects.makeBucket(ctx, space); err != nil {
			return nil, err
		}
		env = append(on.objects.env(space), env...)
	}
	for range count {
		s, err := startServerWith(ctx, t, b.disk.dir, false, env)
		if err != nil {
			if first != nil {
				err = errors.Join(err, first.stop())
			}
			return nil, err
		}
		s.on, s.space = on, space
		if first == nil {
			first = s
		} else {
			first.replicas = append(first.replicas, s)
		}
	}
	return first, nil
}

// startBeside starts one more berthd on the database and the bucket of s, with other settings.
func startBeside(ctx context.Context, b *bench, s *server, env ...string) (*server, error) {
	beside, err := startServerWith(ctx, s.target, b.disk.dir, false, append(slices.Clone(s.launch.env), env...))
	if err != nil {
		return nil, err
	}
	beside.on, beside.space = s.on, s.space
	return beside, nil
}

// withTwin gives s a twin, or ends s.
func withTwin(s *server, start func() (*server, error)) (*server, error) {
	twin, err := start()
	if err != nil {
		return nil, errors.Join(err, s.stop())
	}
	s.twin = twin
	return s, nil
}
