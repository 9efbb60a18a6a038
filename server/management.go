package server

import (
	"net/http"

	"github.com/berth-registry/berth/server/adminapi"
	"github.com/berth-registry/berth/server/backup"
	"github.com/berth-registry/berth/server/httpd"
)

// management is the face of /api/v1, with every engine that it speaks for.
func (s *Server) management(prefix string, origin *httpd.Origin) (http.Handler, error) {
	return adminapi.New(adminapi.Options{
		Auth: s.auth, Access: s.access, Jobs: s.jobs, Database: s.db, History: s.registry, Repositories: s.registry, Trash: s.registry, Now: s.clock(),
		Collector: s.gc, Integrity: s.scrub, Backups: s.backup, Backup: s.scheduledBackup(),
		Prefix: prefix, External: origin.ExternalURL,
	})
}

// scheduledBackup is what the configuration says of backups.
func (s *Server) scheduledBackup() backup.Ask {
	b := s.conf.Berth.Backup
	return backup.Ask{Target: b.Target, Keep: b.Keep, Rate: int64(b.Rate)}
}
