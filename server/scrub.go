package server

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/config"
	"github.com/berth-registry/berth/server/registry"
	"github.com/berth-registry/berth/server/scrub"
)

// checking makes the engine that looks whether stored content is what it was.
func (s *Server) checking() error {
	upstreams, err := repairSources(s.conf)
	if err != nil {
		return err
	}
	c := s.conf.Berth.Integrity.Scrub
	s.scrub = scrub.New(scrub.Options{
		DB: s.db, Blobs: s.blobs, Access: s.access, Rate: int64(c.Rate), Interval: c.Interval, Upstreams: upstreams,
		Forget:  func(d oci.Digest, repos ...int64) { s.registry.Forget(d, repos...) }, // which is made after this
		Metrics: s.metrics.Registry, Now: s.clock(), Log: s.log.Logger,
	})
	return nil
}

// repairSources are the registries of berth.integrity.repair_from.
func repairSources(c *config.Config) (all []scrub.Upstream, err error) {
	for i, r := range c.Berth.Integrity.RepairFrom {
		u, err := url.Parse(r.URL)
		if err != nil {
			return nil, fmt.Errorf("berth.integrity.repair_from[%d]: %w", i, err)
		}
		conf := &tls.Config{MinVersion: tls.VersionTLS12}
		if r.CA != "" {
			text, err := os.ReadFile(r.CA)
			if err != nil {
				return nil, fmt.Errorf("berth.integrity.repair_from[%d]: authorities of the registry: %w", i, err)
			}
			conf.RootCAs = x509.NewCertPool()
			if !conf.RootCAs.AppendCertsFromPEM(text) {
				return nil, fmt.Errorf("berth.integrity.repair_from[%d]: %s holds no PEM certificate", i, r.CA)
			}
		}
		all = append(all, scrub.Upstream{
			Host: u.Host, Plain: u.Scheme == "http", User: r.Username, Password: r.Password.Reveal(), Hosts: r.Hosts, TLS: conf,
		})
	}
	return all, nil
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
