package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/berth-registry/berth/server/backup"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/config"
	"github.com/berth-registry/berth/server/registry"
)

// journals says whether names are written beside the content: content that is forgotten needs none.
func (s *Server) journals() bool {
	_, err := blob.Notes(s.blobs)
	return s.conf.Berth.Journal && s.conf.Storage.InMemory == nil && err == nil
}

// outboxReaders are the cursors for which the outbox is kept, besides those of notifications.
func (s *Server) outboxReaders() []string {
	if s.journals() {
		return []string{backup.JournalReader}
	}
	return nil
}

// journaling writes down what is needed to make the metadata again.
func (s *Server) journaling(ctx context.Context) (err error) {
	if !s.journals() {
		return nil
	}
	s.journal, err = backup.NewJournal(ctx, backup.JournalOptions{
		DB: s.db, Blobs: s.blobs, Holder: replicaName(), Metrics: s.metrics.Registry, Now: s.o.Now, Log: s.log.Logger,
	})
	return err
}

// Rebuild makes the metadata of a configuration's storage again, in an empty data directory or database.
func Rebuild(ctx context.Context, c *config.Config, dryRun bool, progress func(backup.Progress)) (_ *backup.Rebuilt, err error) {
	log := slog.New(slog.DiscardHandler)
	release, err := emptyData(c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, release()) }()
	store, stop, err := contentStore(ctx, c, log)
	if err != nil {
		return nil, fmt.Errorf("rebuild: %w", err)
	}
	defer func() { err = errors.Join(err, stop()) }()
	db := databaseOptions(c)
	db.Log = log
	return backup.Rebuild(ctx, backup.Rebuilding{
		Store: store, File: sqliteFile(db.URL, db.Path), Database: db, Temp: c.Berth.Data, DryRun: dryRun, Plan: registry.Plan,
		Progress: progress, Now: time.Now, Log: log,
	})
}
