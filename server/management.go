package server

import (
	"bytes"
	"encoding/json"
	"net/http"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/adminapi"
	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/backup"
	"github.com/berth-registry/berth/server/blueprint"
	"github.com/berth-registry/berth/server/httpd"
)

// management is the face of /api/v1, with every engine that it speaks for.
func (s *Server) management(prefix string, origin *httpd.Origin) (http.Handler, error) {
	return adminapi.New(adminapi.Options{
		Auth: s.auth, Access: s.access, Users: s.auth, Groups: s.auth, Robots: s.auth, Tokens: s.auth, Sessions: s.auth,
		Jobs: s.jobs, Blueprints: s.blueprint(), Projects: s.project, Database: s.db, History: s.registry, Repositories: s.registry, Trash: s.registry, Now: s.clock(),
		Collector: s.gc, Integrity: s.scrub, Backups: s.backup, Backup: s.scheduledBackup(),
		Draining: s.health.Draining, Prefix: prefix, External: origin.ExternalURL,
	})
}

// blueprint is the configuration as one document.
func (s *Server) blueprint() *blueprint.Service {
	return blueprint.New(blueprint.Options{DB: s.db, Access: s.access, CheckIssuer: checkIssuer})
}

// checkIssuer says whether auth would take the configuration of an issuer.
func checkIssuer(config []byte) error {
	var c auth.IssuerConfig
	d := json.NewDecoder(bytes.NewReader(config))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return fault.New(fault.Invalid, adminapi.FieldInvalid, "configuration of an issuer is not what one has: %v", err).Because(err)
	}
	return auth.CheckIssuer(c)
}

// scheduledBackup is what the configuration says of backups.
func (s *Server) scheduledBackup() backup.Ask {
	b := s.conf.Berth.Backup
	return backup.Ask{Target: b.Target, Keep: b.Keep, Rate: int64(b.Rate)}
}
