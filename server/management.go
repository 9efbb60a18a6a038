package server

import (
	"encoding/json"
	"net/http"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/adminapi"
	"github.com/berth-registry/berth/server/backup"
	"github.com/berth-registry/berth/server/blueprint"
	"github.com/berth-registry/berth/server/httpd"
)

// management is the face of /api/v1, with every engine that it speaks for.
func (s *Server) management(prefix string, origin *httpd.Origin) (http.Handler, error) {
	return adminapi.New(adminapi.Options{
		Auth: s.auth, Access: s.access, Users: s.auth, Groups: s.auth, Robots: s.auth, Tokens: s.auth, Sessions: s.auth,
		Jobs: s.jobs, Blueprints: s.blueprint(), Database: s.db, History: s.registry, Repositories: s.registry, Trash: s.registry, Now: s.clock(),
		Collector: s.gc, Integrity: s.scrub, Backups: s.backup, Backup: s.scheduledBackup(),
		Prefix: prefix, External: origin.ExternalURL,
	})
}

// blueprint is the configuration as one document.
func (s *Server) blueprint() *blueprint.Service {
	return blueprint.New(blueprint.Options{DB: s.db, Access: s.access, CheckIssuer: checkIssuer})
}

// checkIssuer wants the configuration of an issuer to be a JSON object.
func checkIssuer(config []byte) error {
	if err := json.Unmarshal(config, &map[string]json.RawMessage{}); err != nil {
		return fault.New(fault.Invalid, adminapi.FieldInvalid, "configuration of an issuer is not a JSON object").Because(err)
	}
	return nil
}

// scheduledBackup is what the configuration says of backups.
func (s *Server) scheduledBackup() backup.Ask {
	b := s.conf.Berth.Backup
	return backup.Ask{Target: b.Target, Keep: b.Keep, Rate: int64(b.Rate)}
}
