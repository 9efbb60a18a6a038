package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/backup"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/fs"
	"github.com/berth-registry/berth/server/blob/s3"
	"github.com/berth-registry/berth/server/config"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// backups makes backups a kind of job of this server, and schedules those of the configuration.
func (s *Server) backups(context.Context) error {
	c := s.conf.Berth.Backup
	s.backup = backup.New(backup.Options{
		DB: s.db, Blobs: s.blobs, Access: s.access, Temp: s.conf.Berth.Data, Version: s.o.Build.Version, Database: databaseKind(s.conf),
		Open: backupOpener(s.conf, s.log.Logger, s.o.Now), Now: s.o.Now, Log: s.log.Logger,
	})
	schedule := c.Schedule
	if c.Target == "" {
		schedule = ""
	}
	return s.backup.Handle(s.jobs, schedule, backup.Ask{Target: c.Target, Keep: c.Keep, Rate: int64(c.Rate)})
}

func databaseKind(c *config.Config) string {
	if isPostgres(c.Berth.Database.URL.Reveal()) {
		return "postgresql"
	}
	return "sqlite"
}

// backupOpener opens the targets of backups for a registry.
func backupOpener(c *config.Config, log *slog.Logger, now func() time.Time) func(ctx context.Context, target string, create bool) (blob.Store, func() error, error) {
	return func(ctx context.Context, target string, create bool) (blob.Store, func() error, error) {
		return OpenBackup(ctx, c, target, create, log, now)
	}
}

// OpenBackup opens the place of backups that a target names: a directory, or s3://BUCKET/PREFIX. Close it. The
// configuration's own storage is refused.
func OpenBackup(ctx context.Context, c *config.Config, target string, create bool, log *slog.Logger, now func() time.Time) (blob.Store, func() error, error) {
	if strings.HasPrefix(target, "s3:") {
		return openBackupBucket(ctx, c, target, log, now)
	}
	if strings.Contains(target, "://") {
		return nil, nil, noTarget("backup target %s is neither a directory nor s3://BUCKET/PREFIX", target)
	}
	dir, err := filepath.Abs(target)
	if err != nil {
		return nil, nil, err
	}
	if !create && !exists(dir) {
		return nil, nil, fmt.Errorf("backup directory %s is not there", dir)
	}
	if f := c.Storage.Filesystem; f != nil && sameFile(dir, f.RootDirectory) || sameFile(dir, c.Berth.Data) || exists(filepath.Join(dir, "berth.db")) {
		return nil, nil, noTarget("backup directory %s is a registry's own; choose another, on another disk", dir)
	}
	if !create && !exists(filepath.Join(dir, "blobs")) { // opening it would make directories in what is something else
		return nil, nil, fmt.Errorf("backup directory %s has no backup in it; name the target that berthd backup was given", dir)
	}
	store, err := fs.New(dir, fs.Options{Reserve: -1})
	if err != nil {
		return nil, nil, noTarget("backup directory %s cannot be used: %v", dir, err)
	}
	return store, store.Close, nil
}

// noTarget is a target that will not do however often it is tried.
func noTarget(format string, args ...any) error {
	return fault.New(fault.Invalid, fault.Unknown, format, args...)
}

func sameFile(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

func openBackupBucket(ctx context.Context, c *config.Config, target string, log *slog.Logger, now func() time.Time) (blob.Store, func() error, error) {
	u, err := url.Parse(target)
	if err != nil || u.Host == "" || u.Fragment != "" {
		return nil, nil, noTarget("backup target is not a bucket; expected s3://BUCKET/PREFIX")
	}
	if u.User != nil {
		return nil, nil, noTarget("backup target has a name or password in it; set storage.s3.accesskey, or AWS_ACCESS_KEY_ID")
	}
	o := s3.Options{Log: log, Now: now}
	if own := c.Storage.S3; own != nil {
		o = s3Options(own, log, now)
		if own.Bucket == u.Host && strings.Trim(own.RootDirectory, "/") == strings.Trim(u.Path, "/") {
			return nil, nil, noTarget("backup target %s is the registry's own storage; choose another", target)
		}
	}
	o.Bucket, o.RootDirectory = u.Host, strings.Trim(u.Path, "/")
	for name, values := range u.Query() {
		switch value := values[len(values)-1]; name {
		case "region":
			o.Region = value
		case "endpoint":
			o.Endpoint, o.PathStyle, o.Insecure = value, true, false
		default:
			return nil, nil, noTarget("backup target has an unknown option %q (region, endpoint)", name)
		}
	}
	store, err := s3.New(ctx, o)
	if err != nil {
		if refused := (*blob.RefusedError)(nil); errors.As(err, &refused) {
			return nil, nil, noTarget("backup target %s cannot be used: %s", u.Redacted(), refused)
		}
		return nil, nil, fmt.Errorf("backup target %s: %w", target, err)
	}
	return store, store.Close, nil
}

// Backup makes a snapshot while no berthd uses the data directory; with PostgreSQL, also beside replicas.
func Backup(ctx context.Context, c *config.Config, version string, ask backup.Ask, progress func(backup.Progress)) (r *backup.Record, err error) {
	log := slog.New(slog.DiscardHandler)
	o := databaseOptions(c)
	o.Log, o.Manual = log, true
	if o.URL == "" && !exists(o.Path) {
		return nil, errors.New("there is no database in " + c.Berth.Data + "; name the data directory with --data")
	}
	if sqliteFile(o.URL, o.Path) != "" {
		release, err := lockDirectory(c.Berth.Data)
		if errors.Is(err, errLocked) {
			return nil, fmt.Errorf("data directory %s is in use by a berthd without a socket (berth.socket); switch the socket on, or have it make backups by itself (berth.backup)", c.Berth.Data)
		}
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, release()) }()
	}
	db, err := metadb.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	store, stop, err := contentStore(ctx, c, log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	s := backup.New(backup.Options{
		DB: db, Blobs: store, Access: everybody{}, Temp: c.Berth.Data, Version: version, Database: databaseKind(c),
		Open: backupOpener(c, log, time.Now), Now: time.Now, Log: log,
	})
	return s.Run(identity.With(ctx, identity.Principal{Kind: identity.Local}), ask, progress)
}

// everybody is the gate of who has the data directory.
type everybody struct{}

// CheckSystem lets everybody in.
func (everybody) CheckSystem(context.Context, identity.Verb) error { return nil }

// contentStore opens the storage of a configuration outside of a server.
func contentStore(ctx context.Context, c *config.Config, log *slog.Logger) (blob.Store, func() error, error) {
	switch {
	case c.Storage.Filesystem != nil:
		store, err := fs.New(c.Storage.Filesystem.RootDirectory, fs.Options{Shared: isPostgres(c.Berth.Database.URL.Reveal())})
		if err != nil {
			return nil, nil, fmt.Errorf("storage directory %s cannot be used: %w", c.Storage.Filesystem.RootDirectory, err)
		}
		return store, store.Close, nil
	case c.Storage.S3 != nil:
		store, err := s3.New(ctx, s3Options(c.Storage.S3, log, time.Now))
		if err != nil {
			return nil, nil, err
		}
		return store, store.Close, nil
	}
	return nil, nil, fmt.Errorf("storage driver %s keeps nothing that could be saved or restored", c.Storage.Driver())
}

// Backups are the snapshots of a place, oldest first.
func Backups(ctx context.Context, c *config.Config, target string) (all []backup.Entry, err error) {
	store, stop, err := OpenBackup(ctx, c, target, false, slog.New(slog.DiscardHandler), time.Now)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	return backup.Snapshots(ctx, store)
}

// Restore says what Restore brings back.
type Restore struct {
	From         string // a target of backups
	Snapshot     string // "" is the newest
	Verify       bool   // read back every byte that was written
	AllowDamaged bool
	Rate         int64
	Progress     func(backup.Progress)
}

// RestoreBackup makes a snapshot the registry of a configuration whose data directory, database and storage are empty.
func RestoreBackup(ctx context.Context, c *config.Config, o Restore) (_ *backup.Restored, err error) {
	log := slog.New(slog.DiscardHandler)
	from, stop, err := OpenBackup(ctx, c, o.From, false, log, time.Now)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if _, err := backup.Find(ctx, from, o.Snapshot); err != nil { // before anything is made
		return nil, err
	}
	release, err := emptyData(c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, release()) }()
	to, stopTo, err := contentStore(ctx, c, log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stopTo()) }()
	db := databaseOptions(c)
	db.Log = log
	return backup.Restore(ctx, backup.Restoring{
		From: from, To: to, File: sqliteFile(db.URL, db.Path), Database: db, Temp: c.Berth.Data, Snapshot: o.Snapshot, Verify: o.Verify,
		AllowDamaged: o.AllowDamaged, Rate: o.Rate, Progress: o.Progress, Now: time.Now, Log: log,
	})
}

// emptyData takes a data directory that has no database yet. With PostgreSQL it is not the data directory that tells.
func emptyData(c *config.Config) (release func() error, err error) {
	if err := os.MkdirAll(c.Berth.Data, 0o700); err != nil {
		return nil, fmt.Errorf("data directory %s cannot be made: %w", c.Berth.Data, err)
	}
	release, err = lockDirectory(c.Berth.Data)
	if errors.Is(err, errLocked) {
		return nil, fmt.Errorf("data directory %s is in use by a running berthd; stop it, or name another directory with --data", c.Berth.Data)
	}
	return release, err
}

// CheckBackup reads every byte of a snapshot and says what is damaged.
func CheckBackup(ctx context.Context, c *config.Config, o Restore) (_ *backup.Record, lost []backup.DamagedBlob, err error) {
	from, stop, err := OpenBackup(ctx, c, o.From, false, slog.New(slog.DiscardHandler), time.Now)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	return backup.Check(ctx, from, o.Snapshot, o.Rate, time.Now, o.Progress)
}
