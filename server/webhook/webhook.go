// Package webhook tells other people's URLs what happened in the registry: the endpoints of notifications, in the
// envelope of CNCF distribution.
//
// # What is promised
//
// Pushes, mounts and deletes come from the transactional outbox of the metadata database, so that an endpoint gets each
// at least once, whatever crashes: the cursor of an endpoint moves after the answer of the endpoint, and a crash between
// the two repeats events under the ids that they had. Events of one repository arrive in the order in which they
// happened; those of different repositories are sent side by side. Pulls are told from memory, best effort, because a
// pull writes nothing (pull.go).
//
// One endpoint never waits for another. An event that an endpoint does not take is parked with what follows it in its
// repository, the other repositories go on, and when it has failed for Options.MaxAge it becomes a dead letter, which is
// kept to be looked at and replayed. When the endpoint takes nothing at all, the outbox waits for it.
//
// Several replicas share the work by a lease per endpoint with a fence: whoever loses it cannot move the cursor any more.
//
// # Where to start
//
// [Service.Run], then lane.go and deliver.go. The room may assume that the database's clock is one for all replicas, and
// that endpoints were named by the operator: they may be on loopback or in a private network.
package webhook

import (
	"context"
	crand "crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berth-registry/berth/server/metadb"
)

// Options configure a Service. DB, Now and Log are required.
type Options struct {
	DB                *metadb.DB
	Endpoints         []Endpoint // that are switched on; names are unique
	IncludeReferences bool       // say what a pushed or pulled manifest refers to
	Source            Source
	Base              string // of URLs of content, where the request did not say it

	// Readers are others that follow the outbox with a cursor of their own: it is kept for them, too.
	Readers []string

	Keep   time.Duration // events stay in the outbox at least so long; default 7 days
	Most   int64         // more events than this, and the oldest are dropped whoever needs them; default 1,000,000
	MaxAge time.Duration // after so long a parked event is a dead letter; default 24 h

	Roots   *x509.CertPool // nil is the system's
	Metrics *Metrics       // nil measures nothing

	Poll  time.Duration // between looks for new events; default 500 ms
	Lease time.Duration // how long a replica that vanished keeps an endpoint; default 8 s

	Now func() time.Time
	Log *slog.Logger
}

// Endpoint is who is told. The zero value of a number means its default.
type Endpoint struct {
	Name             string
	URL              string // may hold secrets: it is never logged as a whole
	Headers          map[string][]string
	Timeout          time.Duration // of one request; default 5 s
	Threshold        int           // failures in a row before a pause; default 10
	Backoff          time.Duration // the first pause, doubled up to 5 minutes; default 1 s
	IgnoreMediaTypes []string
	IgnoreActions    []string
}

// Service delivers. Safe for concurrent use.
type Service struct {
	o         Options
	holder    string
	namespace string
	endpoints []*endpoint
	pulls     bool
	mounts    bool
}

// New makes endpoints known to the database, so that they get what happens from now on. An endpoint that was known goes
// on where it was.
func New(ctx context.Context, o Options) (*Service, error) {
	o.Keep, o.MaxAge = orDefault(o.Keep, 7*24*time.Hour), orDefault(o.MaxAge, 24*time.Hour)
	o.Most = orDefault(o.Most, 1_000_000)
	o.Poll, o.Lease = orDefault(o.Poll, 500*time.Millisecond), orDefault(o.Lease, 8*time.Second)
	if o.Metrics == nil {
		o.Metrics = NewMetrics()
	}
	s := &Service{o: o, holder: randomText()}
	for _, e := range o.Endpoints {
		made, err := newEndpoint(e, o)
		if err != nil {
			return nil, err
		}
		s.endpoints = append(s.endpoints, made)
		s.pulls = s.pulls || made.wants(actionPull, "")
		s.mounts = s.mounts || made.wants(actionMount, blobMediaType)
	}
	var err error
	if o.DB.Alone() { // whoever held an endpoint was killed: nobody need wait for that lease to run out
		if err := o.DB.Update(ctx, func(tx *metadb.Tx) error { return tx.FreeDeliveries() }); err != nil {
			return nil, fmt.Errorf("webhook: %w", err)
		}
	}
	s.namespace, err = prepare(ctx, o.DB, s.names(), o.Log)
	return s, err
}

// prepare makes the endpoints known and returns the secret that makes ids of events unique to this registry.
func prepare(ctx context.Context, db *metadb.DB, names []string, log *slog.Logger) (namespace string, err error) {
	const setting = "event_namespace"
	known, err := db.Deliveries(ctx)
	if err != nil {
		return "", fmt.Errorf("webhook: %w", err)
	}
	missing := map[string]bool{trimmer: true}
	for _, name := range names {
		missing[name] = true
	}
	for _, d := range known {
		delete(missing, d.Endpoint)
	}
	namespace, err = db.Setting(ctx, setting)
	if err != nil && !errors.Is(err, metadb.ErrNotFound) {
		return "", fmt.Errorf("webhook: %w", err)
	}
	if err == nil {
		if _, err := db.Delivery(ctx, trimmer); err == nil {
			delete(missing, trimmer)
		}
	}
	if namespace != "" && len(missing) == 0 {
		return namespace, nil
	}
	err = db.Update(ctx, func(tx *metadb.Tx) (err error) {
		if namespace, err = tx.EnsureSetting(setting, randomText()); err != nil {
			return err
		}
		for name := range missing {
			created, err := tx.EnsureDelivery(name)
			if err != nil {
				return err
			}
			if created && name != trimmer {
				tx.AfterCommit(func() {
					log.Info("endpoint of notifications is new: it gets what happens from now on", "endpoint", name)
				})
			}
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("webhook: %w", err)
	}
	return namespace, nil
}

// WantsMounts reports whether any endpoint is told of mounts. Without one, a mount need not be an event.
func (s *Service) WantsMounts() bool { return s.mounts }

func (s *Service) names() (names []string) {
	for _, e := range s.endpoints {
		names = append(names, e.Name)
	}
	return names
}

// Run delivers and trims the outbox until ctx ends. A failing endpoint is never an error of Run.
func (s *Service) Run(ctx context.Context) error {
	var g errgroup.Group
	for _, e := range s.endpoints {
		g.Go(func() error { s.follow(ctx, e); return nil })
		if e.wants(actionPull, "") {
			g.Go(func() error { s.tellPulls(ctx, e); return nil })
		}
	}
	g.Go(func() error { s.trimLoop(ctx); return nil })
	return g.Wait()
}

// follow holds the endpoint whenever nobody else does.
func (s *Service) follow(ctx context.Context, e *endpoint) {
	for ctx.Err() == nil {
		err := s.hold(ctx, e.Name, func(ctx context.Context, l lease) error { return s.deliver(ctx, e, l) })
		switch {
		case err == nil || ctx.Err() != nil:
		case errors.Is(err, errHeld):
			pause(ctx, jitter(s.o.Lease/6))
		case errors.Is(err, metadb.ErrFenced):
			pause(ctx, jitter(s.o.Poll)) // a replay, or a replica that thought us dead
		default:
			s.o.Log.Warn("notifications wait for the database", "endpoint", e.Name, "err", err)
			pause(ctx, jitter(5*s.o.Poll))
		}
	}
}

// pause waits, and returns early when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// jitter is between three quarters and five quarters of d, so that replicas do not move in step.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return d*3/4 + rand.N(d/2+1)
}

func orDefault[T int | int64 | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

func randomText() string {
	b := make([]byte, 16)
	_, _ = crand.Read(b) // never fails
	return hex.EncodeToString(b)
}
