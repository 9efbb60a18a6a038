package server

import (
	"net/http"

	"github.com/berth-registry/berth/server/adminapi"
	"github.com/berth-registry/berth/server/httpd"
)

// management is the face of /api/v1, with every engine that it speaks for.
func (s *Server) management(prefix string, origin *httpd.Origin) http.Handler {
	return &adminapi.Handler{
		Auth: s.auth, Access: s.access, Jobs: s.jobs, History: s.registry, Trash: s.registry, Now: s.clock(),
		Prefix: prefix, External: origin.ExternalURL,
	}
}
