package server

import (
	"strings"
	"time"
)

// replicated says that other berthds may use the same database, and the same directories.
func (s *Server) replicated() bool {
	return strings.HasPrefix(s.conf.Berth.Database.URL.Reveal(), "postgres")
}

// clock is the time that replicas have to agree about: of tokens, ids of uploads and leases. On PostgreSQL it follows the
// database's, so that machines whose clocks are minutes apart take each other's tokens.
func (s *Server) clock() func() time.Time {
	if shared := s.db.Clock(); shared != nil {
		return shared
	}
	return s.o.Now
}
