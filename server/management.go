package server

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"net/http"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/adminapi"
	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/backup"
	"github.com/berth-registry/berth/server/blueprint"
	"github.com/berth-registry/berth/server/httpd"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/system"
)

// management is the face of /api/v1, with every engine that it speaks for.
func (s *Server) management(prefix string, origin *httpd.Origin) (http.Handler, error) {
	return adminapi.New(adminapi.Options{
		Auth: s.auth, Access: s.access, Users: s.auth, Groups: s.auth, Robots: s.auth, Tokens: s.auth, Providers: s.auth, Issuers: s.auth, Sessions: s.auth,
		Jobs: s.jobs, Blueprints: s.blueprint(), Projects: s.project, Database: s.db, History: s.registry, Repositories: s.registry, Trash: s.registry, Now: s.clock(),
		Collector: s.gc, Integrity: s.scrub, Backups: s.backup, Backup: s.scheduledBackup(),
		System: s.system(), Draining: s.health.Draining, Prefix: prefix, External: origin.ExternalURL,
	})
}

// system is how this berthd is set up and how it fares.
func (s *Server) system() *system.Service {
	return system.New(system.Options{
		Access: s.access, Loaded: s.o.Config, Latest: s.reloaded.Load, Build: s.o.Build, StartedAt: s.started, Health: s.health, SQLite: !s.replicated(),
		Migrations: func(ctx context.Context) ([]metadb.Migration, error) { return metadb.Migrations(ctx, s.dbOpened) },
	})
}

// blueprint is the configuration as one document.
func (s *Server) blueprint() *blueprint.Service {
	return blueprint.New(blueprint.Options{DB: s.db, Access: s.access, CheckIssuer: checkIssuer, TrustIssuer: trustIssuer})
}

// checkIssuer says whether auth would take the configuration of an issuer.
func checkIssuer(config []byte) error {
	c, err := issuerConfig(config)
	if err != nil {
		return err
	}
	return auth.CheckIssuer(c)
}

// trustIssuer says whether the caller may put a configuration in the place of another one, nil for none.
func trustIssuer(ctx context.Context, before, config []byte) error {
	c, err := issuerConfig(config)
	if err != nil || before == nil {
		return cmp.Or(err, auth.MayReach(ctx, nil, c))
	}
	was, err := issuerConfig(before)
	if err != nil {
		return err
	}
	return auth.MayReach(ctx, &was, c)
}

func issuerConfig(text []byte) (c auth.IssuerConfig, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, fault.New(fault.Invalid, adminapi.FieldInvalid, "configuration of an issuer is not what one has: %v", err).Because(err)
	}
	return c, nil
}

// scheduledBackup is what the configuration says of backups.
func (s *Server) scheduledBackup() backup.Ask {
	b := s.conf.Berth.Backup
	return backup.Ask{Target: b.Target, Keep: b.Keep, Rate: int64(b.Rate)}
}
