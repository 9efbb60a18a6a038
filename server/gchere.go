package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/berth-registry/berth/server/access"
	"github.com/berth-registry/berth/server/config"
	"github.com/berth-registry/berth/server/gc"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// CollectHere calls do with an engine that collects a registry whose berthd does not run here. now says that nobody can rely
// on a lease, since the database is this process's alone: with PostgreSQL another berthd may be at work elsewhere.
func CollectHere(ctx context.Context, c *config.Config, do func(ctx context.Context, s *gc.Service, now bool) error) (err error) {
	log := slog.New(slog.DiscardHandler)
	o := databaseOptions(c)
	o.Log, o.Manual, o.MaxOpen, o.Grace = log, true, 8, leaseOf(c)
	file := sqliteFile(o.URL, o.Path)
	if file != "" {
		if !exists(file) {
			return fmt.Errorf("there is no database in %s; name the data directory with --data", c.Berth.Data)
		}
		release, err := lockDirectory(c.Berth.Data)
		if errors.Is(err, errLocked) {
			return fmt.Errorf("data directory %s is in use by a berthd without a socket (berth.socket); switch the socket on, or stop that berthd first", c.Berth.Data)
		}
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, release()) }()
	}
	db, err := metadb.Open(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	store, stop, err := contentStore(ctx, c, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	clock := db.Clock()
	if clock == nil {
		clock = time.Now
	}
	ctx = identity.With(ctx, identity.Principal{Kind: identity.Local})
	s := gc.New(gc.Options{
		DB: db, Blobs: store, Access: access.New(access.Options{}), Grace: leaseOf(c), TrashHold: c.Berth.Trash.Hold, Untagged: c.Berth.GC.Untagged,
		Rate: c.Berth.GC.Rate, Now: clock, Log: log,
	})
	return do(ctx, s, file != "")
}
