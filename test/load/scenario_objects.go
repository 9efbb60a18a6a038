package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"time"
)

// objectsPatience is for one transfer of 5 GiB.
const objectsPatience = 10 * time.Minute

// objectStages are content in a bucket, one stage for each make of S3 server.
func objectStages() []stage {
	var sts []stage
	for _, make := range makesOfObjects() {
		sts = append(sts, stage{name: "bucket of " + make, below: below{postgres: true, objects: make}, start: startObjectTarget,
			prepare: prepareNothing, scenarios: objectScenarios(make)})
	}
	return sts
}

// puller says which berthd is asked for a blob, and how.
type puller func(s *server, path string, size int64) (asked *server, pull func() error)

// startObjectTarget starts two berthds on one database and one bucket: one answers downloads itself, its twin redirects them.
func startObjectTarget(ctx context.Context, b *bench, t *target, on *backends) (*server, error) {
	if t.can&canPush == 0 {
		return startRaw(ctx, b, t, on)
	}
	s, err := startBerthd(ctx, b, t, on, 1, "REGISTRY_STORAGE_REDIRECT_DISABLE=true")
	if err != nil {
		return nil, err
	}
	return withTwin(s, func() (*server, error) { return startBeside(ctx, b, s, "REGISTRY_STORAGE_REDIRECT_DISABLE=false") })
}

// pusher is a way to upload a blob.
type pusher func(c *client, repo string, l large) error

// objectScenarios move one large blob, one stream; raw is the S3 server's own multipart upload, and its own download. What is
// pulled stays in the bucket, so pulls come last.
func objectScenarios(make string) []scenario {
	return slices.Concat(objectPushes(make, false), objectPushes(make, true), objectMemory(make), objectPulls(make, false), objectPulls(make, true))
}

// objectSize is how large the blob of a scenario is, and how it is called.
func objectSize(z size, huge bool) (bytes int64, suffix, about string) {
	if huge {
		return z.hugeObject, "-5g", "5 GiB"
	}
	return z.object, "", "1 GiB"
}

func objectPushes(make string, huge bool) []scenario {
	_, suffix, what := objectSize(size{}, huge)
	var scs []scenario
	add := func(name, about string, how pusher) {
		name += suffix + "/" + make
		scs = append(scs, scenario{name: name, unit: "MB/s", fits: has(canObjects), huge: huge, about: fmt.Sprintf(about, what),
			run: func(ctx context.Context, b *bench, s *server, round int) (phase, error) {
				bytes, _, _ := objectSize(b.size, huge)
				return runObjectPush(ctx, b, s, large{size: bytes, seed: pushSeed(name, round)}, how)
			}})
	}
	add("s3-push-docker", "push of %s: POST, PATCH, PUT, as docker does", (*client).pushDocker)
	add("s3-push-known", "push of %s: POST, and a PUT that names digest and length", (*client).pushLarge)
	return scs
}

func objectPulls(make string, huge bool) []scenario {
	_, suffix, what := objectSize(size{}, huge)
	var scs []scenario
	add := func(name, about string, how puller) {
		scs = append(scs, scenario{name: name + suffix + "/" + make, unit: "MB/s", fits: has(canObjects), huge: huge, about: fmt.Sprintf(about, what),
			run: func(ctx context.Context, b *bench, s *server, _ int) (phase, error) {
				bytes, _, _ := objectSize(b.size, huge)
				return runObjectPull(ctx, b, s, bytes, how)
			}})
	}
	add("s3-pull-proxied", "pull of %s through berthd (storage.redirect.disable: true)", pullProxied)
	add("s3-pull-redirect", "pull of %s from the S3 server, by berthd's redirect", pullRedirected)
	return scs
}

func objectMemory(make string) []scenario {
	var scs []scenario
	add := func(name, about string, how pusher) {
		name += "/" + make
		scs = append(scs, scenario{name: name, unit: "MiB", lower: true, fits: has(canObjects | canPush),
			about: fmt.Sprintf("peak RSS with 16 uploads of 64 MiB at once (%s), less the peak with one, for each of the 15", about),
			run: func(ctx context.Context, b *bench, s *server, round int) (phase, error) {
				return runObjectMemory(ctx, b, s, pushSeed(name, round), how)
			}})
	}
	add("s3-memory-docker", "POST, PATCH, PUT", (*client).pushDocker)
	add("s3-memory-known", "POST, PUT", (*client).pushLarge)
	return scs
}

// store is the S3 server that a target keeps its content in, or is.
func (s *server) store() *objects {
	if s.objects != nil {
		return s.objects
	}
	return s.on.objects
}

// clear empties the bucket. berthd goes on believing in what it had there, so nothing of it may be asked for again.
func (s *server) clear(ctx context.Context) error {
	s.held = large{}
	return s.store().empty(context.WithoutCancel(ctx), s.space)
}

// runObjectPush pushes l, and removes it again: the pieces of an upload and what is made of them are three times its size at
// most.
func runObjectPush(ctx context.Context, b *bench, s *server, l large, how pusher) (p phase, err error) {
	if err := b.disk.room(3*l.size + gib); err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, s.clear(ctx)) }()
	if s.objects != nil {
		return once(s, l.size, func(*client) error { return s.objects.put(ctx, s.space, "blob", l) })
	}
	l = newLarge(l.size, l.seed)
	return once(s, l.size, func(c *client) error {
		c.patience = objectsPatience
		return how(c, repoLarge, l)
	})
}

// runObjectPull pulls a blob that is pushed when it is not there yet, and stays for the next round.
func runObjectPull(ctx context.Context, b *bench, s *server, size int64, how puller) (phase, error) {
	if s.held.size != size {
		if err := errors.Join(s.clear(ctx), b.disk.room(3*size+gib)); err != nil {
			return phase{}, err
		}
		l := newLarge(size, seedLarge+uint64(size)) // no size is pushed twice into a database: the sizes follow each other
		if err := s.hold(ctx, l); err != nil {
			return phase{}, err
		}
	}
	pulls := int64(2)
	if size == b.size.hugeObject {
		pulls = 1
	}
	asked, pull := s, func() error { return nil }
	if s.objects != nil {
		address, err := s.objects.address(ctx, s.space, "blob")
		if err != nil {
			return phase{}, err
		}
		pull = func() error { return fetch(address, size) }
	} else {
		asked, pull = how(s, blobPath(repoLarge, s.held.digest), size)
	}
	return once(asked, pulls*size, func(*client) error {
		for range pulls {
			if err := pull(); err != nil {
				return err
			}
		}
		return nil
	})
}

// hold brings l into the bucket.
func (s *server) hold(ctx context.Context, l large) error {
	var err error
	if s.objects != nil {
		err = s.objects.put(ctx, s.space, "blob", l)
	} else {
		err = s.with(func(c *client) error {
			c.patience = objectsPatience
			return c.pushLarge(repoLarge, l)
		})
	}
	if err == nil {
		s.held = l
	}
	return err
}

// fetch reads what is at an address, on a connection of its own.
func fetch(address string, size int64) error {
	u, err := url.Parse(address)
	if err != nil {
		return fmt.Errorf("address of an object: %w", err)
	}
	c := newClient(u.Host, nil)
	defer c.close()
	c.patience = objectsPatience
	r := newRequest(u.Host, "GET", u.RequestURI(), "", 200, size)
	return c.run(&r)
}

func pullProxied(s *server, path string, size int64) (asked *server, pull func() error) {
	return s, func() error { return fetch("http://"+s.launch.addr+path, size) }
}

// pullRedirected asks the twin, and then the S3 server.
func pullRedirected(s *server, path string, size int64) (asked *server, pull func() error) {
	return s.twin, func() error {
		var address string
		err := s.twin.with(func(c *client) error {
			a, err := c.call("GET", path, nil)
			if err == nil && (a.status != 307 || a.location == "") {
				err = fmt.Errorf("GET of a large blob: status %d, want a redirect: %.300s", a.status, a.body)
			}
			address = a.location
			return err
		})
		if err != nil {
			return err
		}
		return fetch(address, size)
	}
}

// runObjectMemory restarts berthd, so that no memory of earlier rounds hides what uploads take, and pushes one layer, then
// many at once.
func runObjectMemory(ctx context.Context, b *bench, s *server, seed uint64, how pusher) (p phase, err error) {
	if err := b.disk.room(3*int64(b.size.uploads)*b.size.upload + gib); err != nil {
		return p, err
	}
	layers := make([]large, b.size.uploads+1)
	var wg sync.WaitGroup
	for i := range layers {
		wg.Go(func() { layers[i] = newLarge(b.size.upload, seed+uint64(i)) })
	}
	wg.Wait()
	if err := s.proc.stop(); err != nil {
		return p, err
	}
	if err := s.start(ctx); err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, s.clear(ctx)) }()
	one, err := peakOf(s, layers[:1], how)
	if err != nil {
		return p, err
	}
	all, err := peakOf(s, layers[1:], how)
	all.Value = float64(all.Peak-one.Peak) / float64(b.size.uploads-1) / (1 << 20)
	return all, err
}

// peakOf pushes layers at once.
func peakOf(s *server, layers []large, how pusher) (phase, error) {
	m, err := startMeter(s)
	if err != nil {
		return phase{}, err
	}
	errs := make([]error, len(layers))
	var wg sync.WaitGroup
	for i, l := range layers {
		wg.Go(func() {
			errs[i] = s.with(func(c *client) error {
				c.patience = objectsPatience
				return how(c, repoLarge, l)
			})
		})
	}
	wg.Wait()
	p := phase{Ops: int64(len(layers))}
	for _, l := range layers {
		p.Bytes += l.size
	}
	return p, errors.Join(append(errs, m.stop(&p))...)
}
