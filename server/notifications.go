package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/berth-registry/berth/server/config"
	"github.com/berth-registry/berth/server/distapi"
	"github.com/berth-registry/berth/server/httpd"
	"github.com/berth-registry/berth/server/webhook"
)

// notifications are the endpoints that are told what happens. Without any, the outbox of events is only trimmed.
func (s *Server) notifications(ctx context.Context) (err error) {
	n := s.conf.Notifications
	o := webhook.Options{
		DB: s.db, Endpoints: endpoints(n), IncludeReferences: n.Events.IncludeReferences, Source: source(s.conf),
		Keep: n.Events.Keep, Most: int64(n.Events.Most), MaxAge: n.Events.MaxAge,
		Metrics: webhook.NewMetrics(), Readers: s.outboxReaders(), Now: s.o.Now, Log: s.log.Logger,
	}
	if u := s.conf.HTTP.ExternalURL(); u != nil {
		o.Base = u.String()
	}
	s.webhooks, err = webhook.New(ctx, o)
	if err == nil {
		s.metrics.Registry.MustRegister(o.Metrics.Collectors()...)
	}
	return err
}

// endpoints are those that are switched on.
func endpoints(n config.Notifications) (all []webhook.Endpoint) {
	for _, e := range n.Endpoints {
		if e.Disabled {
			continue
		}
		headers := map[string][]string{}
		for name, values := range e.Headers {
			for _, v := range values {
				headers[name] = append(headers[name], v.Reveal())
			}
		}
		all = append(all, webhook.Endpoint{
			Name: e.Name, URL: e.URL.Reveal(), Headers: headers, Timeout: e.Timeout, Threshold: e.Threshold, Backoff: e.Backoff,
			IgnoreMediaTypes: append(append([]string{}, e.IgnoredMediaTypes...), e.Ignore.MediaTypes...), IgnoreActions: e.Ignore.Actions,
		})
	}
	return all
}

// source is this process, as distribution names itself: the machine with the port, and a number of its own.
func source(c *config.Config) webhook.Source {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	addr := c.HTTP.Addr
	if host, err := os.Hostname(); err == nil {
		addr = host
		if _, port, err := net.SplitHostPort(c.HTTP.Addr); err == nil {
			addr = net.JoinHostPort(host, port)
		}
	}
	return webhook.Source{Addr: addr, InstanceID: hex.EncodeToString(id)}
}

// tell lets the face say what was pulled, when somebody wants to know, and how clients reach this registry.
func (s *Server) tell(v2 *distapi.Handler, origin *httpd.Origin) {
	v2.External = origin.ExternalURL
	if !s.webhooks.WantsPulls() {
		return
	}
	v2.Pulled = func(p distapi.Pull) {
		s.webhooks.Pulled(webhook.Pull{
			Repository: p.Repository, Tag: p.Tag, Digest: p.Digest, MediaType: p.MediaType, Size: p.Size, Body: p.Body,
			Principal: p.Principal, Request: p.Request,
		})
	}
}

// Notifications opens the deliveries of a configuration's database, beside a running berthd or without one. Close them.
func Notifications(ctx context.Context, c *config.Config) (*webhook.Desk, func() error, error) {
	db, closeDB, err := openBeside(ctx, c, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, nil, err
	}
	known := map[string]bool{}
	for _, e := range c.Notifications.Endpoints {
		known[e.Name] = !e.Disabled
	}
	return &webhook.Desk{DB: db, Enabled: known, Now: time.Now}, closeDB, nil
}
