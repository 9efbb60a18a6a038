package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/access"
	"github.com/berth-registry/berth/server/config"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/scrub"
)

// Fsck checks all stored content while no berthd uses the data directory; with PostgreSQL, also beside replicas. It returns
// what is damaged after it.
func Fsck(ctx context.Context, c *config.Config, ask scrub.Ask, progress func(scrub.Report)) (r scrub.Report, damaged []scrub.Finding, err error) {
	log := slog.New(slog.DiscardHandler)
	o := databaseOptions(c)
	o.Log, o.Manual, o.MaxOpen = log, true, 8
	if sqliteFile(o.URL, o.Path) != "" {
		if !exists(sqliteFile(o.URL, o.Path)) {
			return r, nil, fmt.Errorf("there is no database in %s; name the data directory with --data", c.Berth.Data)
		}
		release, err := lockDirectory(c.Berth.Data)
		if errors.Is(err, errLocked) {
			return r, nil, fmt.Errorf("data directory %s is in use by a berthd without a socket (berth.socket); switch the socket on, or stop that berthd first", c.Berth.Data)
		}
		if err != nil {
			return r, nil, err
		}
		defer func() { err = errors.Join(err, release()) }()
	}
	db, err := metadb.Open(ctx, o)
	if err != nil {
		return r, nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	store, stop, err := contentStore(ctx, c, log)
	if err != nil {
		return r, nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	upstreams, err := repairSources(c)
	if err != nil {
		return r, nil, err
	}
	ctx = identity.With(ctx, identity.Principal{Kind: identity.Local})
	s := scrub.New(scrub.Options{DB: db, Blobs: store, Access: access.New(access.Options{}), Upstreams: upstreams, Now: time.Now, Log: log})
	if r, err = s.Check(ctx, ask, progress); err != nil {
		return r, nil, err
	}
	for after, page := (oci.Digest{}), 500; ; after = damaged[len(damaged)-1].Digest {
		found, err := s.Damaged(ctx, after, page)
		damaged = append(damaged, found...)
		if err != nil || len(found) < page {
			return r, damaged, err
		}
	}
}
