// Package system tells how this berthd is set up and how it fares: its configuration with the origin of each value, its
// version, database and storage, and its health with the causes. It reads and changes nothing.
//
// Everything asks for setting.read, which administrators and auditors have. No secret is in any answer. Start reading at
// [Service].
package system

import (
	"context"
	"fmt"
	"time"

	"github.com/berth-registry/berth/server/config"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/telemetry"
)

// gate is the authorization point.
type gate interface {
	CheckSystem(ctx context.Context, v identity.Verb) error
}

// Options configure a Service. All are required.
type Options struct {
	Access     gate
	Loaded     *config.Loaded        // at the start
	Latest     func() *config.Loaded // of the last reload, nil without one
	Build      telemetry.Build
	StartedAt  time.Time
	Health     *telemetry.Health
	SQLite     bool // the database is a file, else PostgreSQL
	Migrations func(ctx context.Context) ([]metadb.Migration, error)
}

// Service answers. Safe for concurrent use.
type Service struct{ o Options }

// New returns a Service.
func New(o Options) *Service { return &Service{o} }

// Info is what a berthd is.
type Info struct {
	telemetry.Build
	StartedAt  time.Time
	Database   string // sqlite or postgresql
	Storage    string // name of the driver
	Migrations []metadb.Migration
	ReadOnly   bool
	// Features are what the configuration switches on or off, by name.
	Features map[string]bool
}

// Setting is a value of the configuration that berthd runs with.
type Setting struct {
	config.Value
	Waits bool // the configuration that was loaded last says something else, for which berthd has to be started again
}

// Settings are all values of the configuration, in the order in which it is documented.
func (s *Service) Settings(ctx context.Context) ([]Setting, error) {
	if err := s.o.Access.CheckSystem(ctx, identity.SettingRead); err != nil {
		return nil, err
	}
	waits, fresh := map[string]bool{}, map[string]config.Value{}
	if latest := s.o.Latest(); latest != nil {
		_, restart := config.Diff(s.o.Loaded.Config, latest.Config)
		for _, key := range restart {
			waits[key] = true
		}
		for _, v := range latest.Values() {
			fresh[v.Key] = v
		}
	}
	var all []Setting
	for _, v := range s.o.Loaded.Values() {
		if now, ok := fresh[v.Key]; ok && v.Reload {
			v = now
		}
		all = append(all, Setting{v, waits[v.Key]})
	}
	return all, nil
}

// Info tells what this berthd is.
func (s *Service) Info(ctx context.Context) (Info, error) {
	if err := s.o.Access.CheckSystem(ctx, identity.SettingRead); err != nil {
		return Info{}, err
	}
	migrations, err := s.o.Migrations(ctx)
	if err != nil {
		return Info{}, fmt.Errorf("system: migrations: %w", err)
	}
	c := s.o.Loaded.Config
	i := Info{
		Build: s.o.Build, StartedAt: s.o.StartedAt, Database: "postgresql", Storage: c.Storage.Driver(), Migrations: migrations,
		ReadOnly: c.Storage.Maintenance.ReadOnly.Enabled, Features: features(c),
	}
	if s.o.SQLite {
		i.Database = "sqlite"
	}
	return i, nil
}

// features are what people ask for first when something does not work.
func features(c *config.Config) map[string]bool {
	return map[string]bool{
		"anonymous": c.Auth.Anonymous != "none", "backups": c.Berth.Backup.Target != "", "delete": c.Storage.Delete.Enabled, "journal": c.Berth.Journal,
		"notifications": len(c.Notifications.Endpoints) > 0, "redirect": !c.Storage.Redirect.Disable, "scrub": c.Berth.Integrity.Scrub.Interval > 0, "tokenServer": c.Auth.Token != nil,
	}
}

// Health asks every part of this berthd, as /readyz does, and says why one does not work.
func (s *Service) Health(ctx context.Context) (telemetry.Report, error) {
	if err := s.o.Access.CheckSystem(ctx, identity.SettingRead); err != nil {
		return telemetry.Report{}, err
	}
	return s.o.Health.Ready(ctx), nil
}
