package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
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
	if f := c.Storage.Filesystem; f != nil && !exists(filepath.Join(f.RootDirectory, "blobs")) { // opening it would make directories
		return nil, fmt.Errorf("storage directory %s is not there or has no content of a registry; name the data directory with --data, or the configuration", f.RootDirectory)
	}
	store, stop, err := contentStore(ctx, c, log)
	if err != nil {
		return nil, fmt.Errorf("rebuild: %w", err)
	}
	defer func() { err = errors.Join(err, stop()) }()
	if err := backup.RequireJournal(ctx, store); err != nil {
		return nil, err
	}
	temp := c.Berth.Data
	if dryRun && !exists(temp) { // nor does a dry run make one
		if temp, err = os.MkdirTemp("", "berth-rebuild-"); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	} else {
		release, err := emptyData(c)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, release()) }()
	}
	db := databaseOptions(c)
	db.Log = log
	return backup.Rebuild(ctx, backup.Rebuilding{
		Store: store, File: sqliteFile(db.URL, db.Path), Database: db, Temp: temp, DryRun: dryRun, Plan: registry.Plan,
		Grace: leaseOf(c), Progress: progress, Now: time.Now, Log: log,
	})
}
