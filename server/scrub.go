package server

import (
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/config"
	"github.com/berth-registry/berth/server/registry"
	"github.com/berth-registry/berth/server/scrub"
)

// checking makes the engine that looks whether stored content is what it was.
func (s *Server) checking() {
	c := s.conf.Berth.Integrity.Scrub
	s.scrub = scrub.New(scrub.Options{
		DB: s.db, Blobs: s.blobs, Access: s.access, Rate: int64(c.Rate), Interval: c.Interval,
		Forget:  func(d oci.Digest, repos ...int64) { s.registry.Forget(d, repos...) }, // which is made after this
		Metrics: s.metrics.Registry, Now: s.clock(), Log: s.log.Logger,
	})
}

// verify is how often a blob is verified while it is pulled.
func verify(c *config.Config) registry.Verify {
	switch c.Berth.Integrity.Reads {
	case "always":
		return registry.VerifyAlways
	case "never":
		return registry.VerifyNever
	}
	return registry.VerifySampled
}
