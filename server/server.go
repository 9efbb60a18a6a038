// Package server is berthd, assembled: read New from top to bottom to know the product. Rooms are built in the order of
// the storeys, from the ground up; what an engine needs of another is handed to it here, so that no engine imports its
// neighbours, and drivers are chosen here and nowhere else.
package server

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berth-registry/berth/internal/durable"
	"github.com/berth-registry/berth/server/access"
	"github.com/berth-registry/berth/server/adminapi"
	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/auth/htpasswd"
	"github.com/berth-registry/berth/server/auth/spiffe"
	"github.com/berth-registry/berth/server/backup"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/fs"
	"github.com/berth-registry/berth/server/blob/mem"
	"github.com/berth-registry/berth/server/blob/s3"
	"github.com/berth-registry/berth/server/config"
	"github.com/berth-registry/berth/server/distapi"
	"github.com/berth-registry/berth/server/gc"
	"github.com/berth-registry/berth/server/httpd"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/job"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/project"
	"github.com/berth-registry/berth/server/registry"
	"github.com/berth-registry/berth/server/scrub"
	"github.com/berth-registry/berth/server/telemetry"
	"github.com/berth-registry/berth/server/webhook"
)

// Options are what the program gives the daemon besides its configuration.
type Options struct {
	Config  *config.Loaded
	Stderr  io.Writer
	Getenv  func(string) string
	Build   telemetry.Build
	Now     func() time.Time
	Console bool // a person reads stderr: say things in lines, not in records

	Listening func() // called once, when the addresses are open; may be nil

	store blob.Store // instead of the configured one: a drill's
}

// Server is a berthd. Make it with New, then Run it.
type Server struct {
	o    Options
	conf *config.Config
	log  *telemetry.Log

	metrics *telemetry.Metrics
	health  *telemetry.Health
	tracing *telemetry.Tracing

	db       *metadb.DB
	blobs    blob.Store
	users    *htpasswd.File // nil without auth.htpasswd
	auth     *auth.Service
	access   *access.Point
	projects *project.Directory
	project  *project.Service
	registry *registry.Service
	scrub    *scrub.Service
	jobs     *job.Service
	webhooks *webhook.Service
	backup   *backup.Service
	journal  *backup.Journal // nil when none is written
	gc       *gc.Service

	started  time.Time
	reloaded atomic.Pointer[config.Loaded] // the configuration that was taken up last, nil: the one of the start
	dbOpened metadb.Options

	traffic traffic

	clientCAs      []func() []*x509.Certificate // whose client certificates are identities
	ownCertificate func() (*tls.Certificate, error)
	spiffe         *spiffe.Provider // nil: none

	certs *httpd.Certificates
	http  *httpd.Server

	first   FirstRun
	closers []func() error
}

// New builds the rooms. On an error nothing is left open.
func New(ctx context.Context, o Options) (_ *Server, err error) {
	s := &Server{o: o, conf: o.Config.Config, started: o.Now()}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	for _, build := range []func(context.Context) error{
		s.ground, s.storage, s.identities, s.notifications, s.engines, s.background, s.collecting, s.backups, s.journaling, s.faces,
	} {
		if err := build(ctx); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// ground is the log, metrics, traces and health.
func (s *Server) ground(ctx context.Context) (err error) {
	c := s.conf
	s.log, err = telemetry.NewLogger(s.o.Stderr, telemetry.LogOptions{Format: c.Log.Formatter, Level: c.Log.Level, Fields: c.Log.Fields})
	if err != nil {
		return err
	}
	for _, w := range s.o.Config.Warnings {
		s.log.Warn("configuration", "problem", w.String())
	}
	s.metrics = telemetry.NewMetrics(s.o.Build)
	s.health = telemetry.NewHealth(s.log.Logger, s.o.Now)
	s.tracing, err = telemetry.NewTracing(ctx, telemetry.TraceOptions{Getenv: s.o.Getenv, Version: s.o.Build.Version, Log: s.log.Logger})
	s.onClose(func() error {
		flush, stop := context.WithTimeout(context.Background(), 5*time.Second)
		defer stop()
		return s.tracing.Shutdown(flush)
	})
	return err
}

// storage is the metadata database and the bytes.
func (s *Server) storage(ctx context.Context) error {
	data := s.conf.Berth.Data
	if err := os.MkdirAll(data, 0o700); err != nil {
		return fmt.Errorf("data directory %s cannot be made: %w", data, err)
	}
	if err := s.lockData(); err != nil {
		return err
	}
	s.first.New = !exists(filepath.Join(data, "berth.db")) && !exists(filepath.Join(data, "first-run.txt"))
	driver, store, err := s.openStore(ctx)
	if err != nil {
		return err
	}
	s.blobs = s.observed(driver, store)
	path := filepath.Join(data, "berth.db")
	if driver == "inmemory" { // what forgets its content must forget its names
		dir, err := os.MkdirTemp("", "berth-inmemory-")
		if err != nil {
			return err
		}
		s.onClose(func() error { return os.RemoveAll(dir) })
		path = filepath.Join(dir, "berth.db")
	}
	db := s.conf.Berth.Database
	file := sqliteFile(db.URL.Reveal(), path)
	if file != "" {
		if err := s.newFile(ctx, file, store); err != nil {
			return err
		}
	}
	s.dbOpened = metadb.Options{
		URL: db.URL.Reveal(), Path: path, MaxOpen: db.MaxOpen, Outage: db.Outage, Manual: db.Migrate == "manual",
		Fresh: s.o.Console && s.first.New, // whoever reads that gets lines of its own (announce)
		Grace: leaseOf(s.conf), Log: s.log.Logger, Now: s.o.Now,
	}
	s.db, err = metadb.Open(ctx, s.dbOpened)
	if err != nil {
		return err
	}
	s.onClose(s.db.Close)
	if err := s.newRows(ctx, store); err != nil {
		return err
	}
	s.health.Register("database", 2*time.Second, s.db.Check)
	s.health.Register("storage", 2*time.Second, s.blobs.Check)
	return nil
}

// newFile refuses to make a SQLite database where one has left its traces: its bytes, which a new one would be mixed up with, or
// its names in the store.
func (s *Server) newFile(ctx context.Context, file string, store blob.Store) error {
	if s.o.store != nil || exists(file) {
		return nil
	}
	left, err := metadb.Beside(file)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("database %s is missing, and files that belong to it are there: %s; put it back beside them, or move them away", file, strings.Join(left, ", "))
	}
	return backup.Unclaimed(ctx, store)
}

// newRows is the same for a database without rows. With PostgreSQL another replica may have begun this very registry since: it has
// rows before it has a journal.
func (s *Server) newRows(ctx context.Context, store blob.Store) error {
	if s.o.store != nil {
		return nil
	}
	empty, err := s.db.Empty(ctx)
	if err != nil || !empty {
		return err
	}
	refused := backup.Unclaimed(ctx, store)
	if refused == nil {
		return nil
	}
	if empty, err = s.db.Empty(ctx); err != nil || !empty {
		return err
	}
	return refused
}

// lockData keeps a second berthd away from a data directory with a SQLite database: each remembers what it has read and
// does not see what another changes. With PostgreSQL several may share the directory.
func (s *Server) lockData() error {
	if s.replicated() {
		return nil
	}
	release, err := lockDirectory(s.conf.Berth.Data)
	if errors.Is(err, errLocked) {
		return fmt.Errorf("data directory %s is in use by another berthd; stop it first, or give this one a directory of its own with --data", s.conf.Berth.Data)
	}
	if err != nil {
		return err
	}
	s.onClose(release)
	return nil
}

// openStore chooses the storage driver.
func (s *Server) openStore(ctx context.Context) (name string, store blob.Store, err error) {
	switch c := s.conf.Storage; {
	case s.o.store != nil:
		return "backup", s.o.store, nil
	case c.InMemory != nil:
		return "inmemory", mem.New(), nil
	case c.Filesystem != nil:
		root := c.Filesystem.RootDirectory
		if exists(filepath.Join(root, "docker", "registry", "v2", "repositories")) {
			s.log.Warn("the storage directory holds images of another registry; this version does not take them over, it starts empty beside them", "directory", root)
		}
		f, err := fs.New(root, fs.Options{Shared: s.replicated()})
		if err != nil {
			return "", nil, fmt.Errorf("storage directory %s cannot be used: %w", root, err)
		}
		s.onClose(f.Close)
		return "filesystem", f, nil
	case c.S3 != nil:
		b, err := s3.New(ctx, s3Options(c.S3, s.log.Logger, s.o.Now))
		if err != nil {
			return "", nil, err
		}
		s.onClose(b.Close)
		return "s3aws", b, nil
	}
	return "", nil, fmt.Errorf("storage driver %s is not supported in this version", s.conf.Storage.Driver())
}

// observed measures the store under the names of registry_storage_action_seconds.
func (s *Server) observed(driver string, store blob.Store) blob.Store {
	actions := map[string]telemetry.Action{}
	for _, a := range []string{"upload", "suspend", "commit", "abort", "open", "delete", "check", "url", "place", "settle"} {
		actions[a] = s.metrics.StorageAction(driver, a)
	}
	return blob.Observe(store, func(action string, seconds float64, _ error) {
		actions[action].Observe(time.Duration(seconds * float64(time.Second)))
	})
}

// identities is who may call, and what they may do.
func (s *Server) identities(ctx context.Context) (err error) {
	c := s.conf
	s.projects, err = project.NewDirectory(ctx, project.DirectoryOptions{
		DB: s.db, DefaultPublic: c.Berth.Projects.Default == "public", Public: c.Berth.Projects.Public,
	})
	if err != nil {
		return err
	}
	anonymous, err1 := access.ParseLevel(c.Auth.Anonymous)
	users, err2 := access.ParseLevel(c.Auth.Users)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	s.access = access.New(access.Options{
		Projects: s.projects, Grants: s.db, Anonymous: anonymous, Users: users, AutoCreate: autoCreate(c.Berth.Projects.AutoCreate), Now: s.clock(),
	})
	s.project = project.New(project.Options{DB: s.db, Access: s.access, Directory: s.projects, Now: s.clock()})
	var providers []auth.Provider
	if h := c.Auth.Htpasswd; h != nil {
		if !exists(h.Path) { // as registry:2 does; the way in is the account admin of the first run
			if err := durable.WriteFile(h.Path, nil, 0o600); err != nil {
				return fmt.Errorf("htpasswd file %s is missing and cannot be made: %w", h.Path, err)
			}
			s.log.Warn("the htpasswd file was missing and was made, without users; add some with berthd htpasswd add", "file", h.Path)
		}
		s.users, err = htpasswd.Open(htpasswd.Options{Path: h.Path, Now: s.o.Now, Log: s.log.Logger})
		if err != nil {
			return err
		}
		providers = append(providers, s.users)
	}
	limits := c.Berth.Limits
	o := auth.Options{
		Store: s.db, Access: s.access, Providers: providers, Service: "berth", Issuer: "berth",
		Anonymous: anonymous > access.None, TokenLifetime: c.Berth.Token.Lifetime, RefreshLifetime: c.Berth.Token.RefreshLifetime,
		SessionIdle: c.Berth.Sessions.Idle, SessionLifetime: c.Berth.Sessions.Lifetime, MinPassword: limits.PasswordMin,
		Throttle:   auth.Throttle{Hard: limits.LoginFailures, HardDelay: limits.LoginPause, Forget: limits.LoginWindow},
		OpenIssuer: s.openIssuer, Now: s.clock(), Log: s.log.Logger,
	}
	if t := c.Auth.Token; t != nil {
		if o.Foreign, err = tokenServer(t, s.clock()); err != nil {
			return err
		}
		o.ForeignKey = t.Issuer
	}
	if s.auth, err = auth.New(o); err != nil {
		return err
	}
	if err := s.providers(ctx); err != nil {
		return err
	}
	s.first.Password, err = s.auth.EnsureAdmin(ctx, c.Berth.Admin.Password.Reveal())
	if err != nil || s.first.Password == "" {
		return err
	}
	debug.FreeOSMemory() // a password hash takes 19 MiB, which an idle registry should not keep
	// At once: when the rest of this start fails, the next one cannot know the password any more.
	return durable.WriteFile(s.firstRunFile(), []byte("admin / "+s.first.Password+"\n"), 0o600)
}

func autoCreate(rule string) access.AutoCreate {
	switch rule {
	case "admins":
		return access.Admins
	case "nobody":
		return access.NoOne
	}
	return access.AnyPusher
}

// engines is the registry itself.
func (s *Server) engines(ctx context.Context) error {
	key, err := s.uploadKey(ctx)
	if err != nil {
		return err
	}
	m := s.conf.Storage.Maintenance
	if err := s.checking(); err != nil {
		return err
	}
	s.registry = registry.New(registry.Options{
		Verify: verify(s.conf), Suspect: s.scrub.Suspect,
		DB: s.db, Blobs: s.blobs, Access: s.access, Projects: s.projects, Limits: s.limits(s.conf),
		NoDelete: !s.conf.Storage.Delete.Enabled, ReadOnly: m.ReadOnly.Enabled,
		UploadAge: m.UploadPurging.Age, KeepUploads: !m.UploadPurging.Enabled || m.UploadPurging.DryRun,
		Lease: leaseOf(s.conf), TrashHold: s.conf.Berth.Trash.Hold,
		CountCaches: func(name string) registry.Counter { return s.metrics.StorageCache(name) },
		Room:        s.room().Take, TellMounts: s.webhooks.WantsMounts(),
		UploadKey: key, Now: s.clock(), Log: s.log.Logger,
	})
	return nil
}

// uploadKey is the key that signs the ids of uploads, shared by all who share the database.
func (s *Server) uploadKey(ctx context.Context) (key []byte, err error) {
	const name = "upload_key"
	text, err := s.db.Setting(ctx, name)
	if errors.Is(err, metadb.ErrNotFound) {
		fresh := make([]byte, 32)
		_, _ = rand.Read(fresh) // never fails
		err = s.db.Update(ctx, func(tx *metadb.Tx) error {
			text, err = tx.EnsureSetting(name, hex.EncodeToString(fresh))
			return err
		})
	}
	if err != nil {
		return nil, err
	}
	return hex.DecodeString(text)
}

func (s *Server) limits(c *config.Config) registry.Limits {
	l := c.Berth.Limits
	inline := int64(l.InlineBytes)
	if inline == 0 {
		inline = -1 // zero means none in the configuration, and the default in the engine
	}
	return registry.Limits{
		Manifest: int64(l.ManifestBytes), Inline: inline, Cache: int64(l.CacheBytes),
		Page: c.Tags.MaxTags, Catalog: c.Catalog.MaxEntries,
	}
}

// faces is the listeners and what they serve.
func (s *Server) faces(ctx context.Context) (err error) {
	c := s.conf
	s.certs, err = s.openCertificates()
	if err != nil {
		return err
	}
	origin, err := httpd.NewOrigin(httpd.OriginOptions{Host: c.HTTP.Host, TrustedProxies: c.HTTP.TrustedProxies, AllowPlain: c.HTTP.AllowPlain})
	if err != nil {
		return err
	}
	errs := &httpd.ErrorWriter{
		Log: s.log.Logger, Table: distapi.Problem,
		Realm:   func(r *http.Request) string { return realm(c.Auth.Token, origin.ExternalURL(r)) },
		Service: func(*http.Request) string { return cmp.Or(serviceName(c.Auth.Token), s.auth.Service()) },
		Faces:   []httpd.Face{adminapi.Failures()},
	}
	served, err := s.routes(ctx, origin)
	if err != nil {
		return err
	}
	o := httpd.Options{
		Addr: c.HTTP.Addr, Handler: served, Log: s.log.Logger, Origin: origin, Errors: errs, Certs: s.certs,
		HTTP2: !c.HTTP.HTTP2.Disabled, Metrics: s.metrics, ServeMetrics: true, MetricsAllowed: s.mayReadMetrics,
		Health: s.health, Tracing: s.tracing,
		HeaderTimeout: c.Berth.Limits.HeaderTimeout, IdleTimeout: c.Berth.Limits.IdleTimeout, Stall: c.Berth.Limits.BodyTimeout,
		Drain: c.HTTP.DrainTimeout, MaxConns: c.Berth.Limits.Connections, MaxBody: 2 * int64(c.Berth.Limits.ManifestBytes),
		DebugAddr: c.HTTP.Debug.Addr, Now: s.o.Now,
	}
	o.Socket, o.SocketOptional = s.socket(ctx)
	if c.HTTP.Debug.Prometheus.Enabled {
		o.MetricsPath = c.HTTP.Debug.Prometheus.Path
	}
	if !c.Log.AccessLog.Disabled {
		o.Access = httpd.NewAccessLog(s.o.Stderr, c.Log.Formatter == telemetry.JSON)
	}
	s.http, err = httpd.New(o)
	return err
}

func (s *Server) openCertificates() (*httpd.Certificates, error) {
	o := CertOptions(s.conf, s.log.Logger, s.o.Now)
	o.Given, o.TLS.Identities = s.ownCertificate, s.clientAuthorities()
	return httpd.OpenCertificates(o)
}

// CertOptions is where the configuration says that the server's certificate comes from.
func CertOptions(c *config.Config, log *slog.Logger, now func() time.Time) httpd.CertOptions {
	o := httpd.CertOptions{
		Dir: filepath.Join(c.Berth.Data, "tls"), Hosts: certHosts(c), CertFile: c.HTTP.TLS.Certificate, KeyFile: c.HTTP.TLS.Key,
		TLS: httpd.TLSOptions{
			MinVersion: c.HTTP.TLS.MinimumTLS, CipherSuites: c.HTTP.TLS.CipherSuites, ClientCAs: c.HTTP.TLS.ClientCAs,
			ClientAuth: c.HTTP.TLS.ClientAuth, HTTP2: !c.HTTP.HTTP2.Disabled,
		},
		Log: log, Now: now,
	}
	if a := c.Berth.ACME; a.Email != "" {
		o.ACME = &httpd.ACMEOptions{Email: a.Email, Hosts: a.Hosts, Directory: a.Directory, CacheDir: filepath.Join(o.Dir, "acme")}
	}
	return o
}

// certHosts are the names that the self-made certificate is for, besides those of this machine.
func certHosts(c *config.Config) (hosts []string) {
	if h := c.HTTP.Hostname(); h != "" {
		hosts = append(hosts, h)
	}
	h, _, err := net.SplitHostPort(c.HTTP.Addr)
	if err != nil {
		return hosts
	}
	if ip, err := netip.ParseAddr(h); h != "" && (err != nil || !ip.IsUnspecified()) {
		return append(hosts, h)
	}
	// All addresses: clients that were told no name use one of them.
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return hosts
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			hosts = append(hosts, n.IP.String())
		}
	}
	return hosts
}

// routes is what is served where. Paths below /v2/ have names with slashes in them, so nothing cleans or matches them
// before the face does.
func (s *Server) routes(ctx context.Context, origin *httpd.Origin) (http.Handler, error) {
	v2 := &distapi.Handler{Registry: s.registry, Auth: s.auth}
	s.tell(v2, origin)
	served := s.traffic.count(v2, s.o.Now)
	if u := s.conf.HTTP.ExternalURL(); u != nil {
		v2.Prefix = strings.TrimSuffix(u.Path, "/")
		if !s.conf.HTTP.RelativeURLs {
			v2.Base = u.String()
		}
	}
	_, addressed := s.blobs.(blob.Redirector)
	v2.Redirect = addressed && !s.conf.Storage.Redirect.Disable
	search := distapi.Search{Handler: v2}
	signatures := distapi.Signatures{Handler: v2}
	token := &distapi.TokenEndpoint{Auth: s.auth}
	admin, err := s.management(v2.Prefix, origin)
	if err != nil {
		return nil, err
	}
	login, err := s.login(ctx, origin)
	if err != nil {
		return nil, err
	}
	extra := s.conf.HTTP.Headers
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, values := range extra {
			w.Header()[http.CanonicalHeaderKey(name)] = values
		}
		r = s.withCertificate(r)
		_, local := httpd.OverSocket(r) // it is for the management API alone: no other face knows the caller
		switch path := r.URL.Path; {
		case !local && (path == adminapi.LoginPath || strings.HasPrefix(path, adminapi.LoginPath+"/")):
			login.ServeHTTP(w, r)
		case strings.HasPrefix(path, "/api/"), path == "/api", local:
			admin.ServeHTTP(w, r)
		case strings.HasPrefix(path, "/v2/"), path == "/v2":
			served.ServeHTTP(w, r)
		case path == "/token", path == "/service/token", path == "/token/jwks":
			token.ServeHTTP(w, r)
		case path == "/v1/search":
			search.ServeHTTP(w, r)
		case distapi.SignaturesPath(path):
			signatures.ServeHTTP(w, r)
		case path == "/":
			serveRoot(w, r)
		default:
			http.NotFound(w, r)
		}
	}), nil
}

func serveRoot(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "This is a berth container image registry.\nLog in with docker login or podman login; the API is below /v2/.\n")
}

// mayReadMetrics admits administrators to /metrics from anywhere.
func (s *Server) mayReadMetrics(r *http.Request) bool {
	header := r.Header.Get("Authorization")
	if header == "" {
		return false
	}
	who, err := s.auth.Authenticate(r.Context(), header, "")
	return err == nil && who.Kind != identity.Anonymous && who.Admin && who.Grants == nil
}

// Run serves until ctx ends, drains and returns. Close comes after it.
func (s *Server) Run(ctx context.Context) error {
	if err := s.http.Listen(ctx); err != nil {
		return err
	}
	if err := s.announce(); err != nil {
		return err
	}
	if s.o.Listening != nil {
		s.o.Listening()
	}
	g, ctx := errgroup.WithContext(ctx)
	last, drained := context.WithCancel(context.WithoutCancel(ctx)) // of what goes on until the last push is answered
	defer drained()
	g.Go(func() error {
		defer drained()
		return named("http", s.http.Run(ctx))
	})
	g.Go(func() error { return named("identities", s.auth.Run(ctx)) })
	if s.spiffe != nil {
		g.Go(func() error { return named("spiffe", s.spiffe.Run(ctx)) })
	}
	g.Go(func() error { return named("jobs", s.jobs.Run(ctx)) })
	g.Go(func() error { return named("collection", s.gc.Run(ctx)) })
	g.Go(func() error { return named("notifications", s.webhooks.Run(ctx)) })
	if s.journal != nil {
		g.Go(func() error { return named("journal", s.journal.Run(last)) })
	}
	return g.Wait()
}

func named(loop string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", loop, err)
	}
	return nil
}

// Reload takes up a new configuration: certificates, htpasswd, log level and limits. What else changed is named and
// waits for a restart. When anything is refused, nothing changes.
func (s *Server) Reload(next *config.Loaded) error {
	changed, restart := config.Diff(s.conf, next.Config)
	// Looked at before anything is taken up, so that a bad certificate leaves the old htpasswd file in force, too.
	if t := s.conf.HTTP.TLS; t.Certificate != "" {
		if _, _, err := httpd.ShowFiles(t.Certificate, t.Key, s.o.Now()); err != nil {
			return fmt.Errorf("reload refused, nothing changed: %w", err)
		}
	}
	if s.users != nil {
		if err := s.users.Reload(); err != nil {
			return fmt.Errorf("reload refused, nothing changed: %w", err)
		}
	}
	if err := s.http.Reload(); err != nil {
		return fmt.Errorf("reload refused, the old certificate stays in use: %w", err)
	}
	s.registry.SetLimits(s.limits(next.Config))
	s.reloaded.Store(next)
	report := func() {
		s.log.Info("reloaded", "changed", strings.Join(changed, " "), "needRestart", strings.Join(restart, " "))
	}
	quiet := !s.log.Enabled(context.Background(), slog.LevelInfo)
	if !quiet { // it may be after the new level
		report()
	}
	if err := s.log.SetLevel(next.Config.Log.Level); err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	if quiet {
		report()
	}
	return nil
}

// Log is the server's log, for the program around it.
func (s *Server) Log() *slog.Logger { return s.log.Logger }

func (s *Server) onClose(f func() error) { s.closers = append(s.closers, f) }

// Close releases everything, in the reverse order of New.
func (s *Server) Close() error {
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	s.closers = nil
	return errors.Join(errs...)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
