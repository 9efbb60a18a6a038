package httpd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berth-registry/berth/server/telemetry"
)

// Options describes a server. Handler, Origin, Log and Now are required; every zero duration and limit means its
// default.
type Options struct {
	Addr   string // main address, "127.0.0.1:5000"
	Socket string // path of a Unix socket for administrators of this machine; "" is none
	// SocketOptional goes on without the socket, with a warning, when it cannot be had.
	SocketOptional bool
	Handler        http.Handler
	Log            *slog.Logger
	Origin         *Origin
	Errors         *ErrorWriter
	Certs          *Certificates // nil: no TLS on the port
	HTTP2          bool          // offer h2 over TLS; must equal the certificates' TLSOptions.HTTP2

	Metrics        *telemetry.Metrics
	ServeMetrics   bool                     // /metrics on the main port
	MetricsAllowed func(*http.Request) bool // who else than this machine itself may read it there; nil is nobody
	Health         *telemetry.Health
	Tracing        *telemetry.Tracing
	Access         *AccessLog

	DebugAddr   string // metrics, health, pprof; "" is no debug listener
	MetricsPath string // on the debug listener; "" is /metrics

	HeaderTimeout time.Duration // 10 s: connect to end of header, and the TLS handshake
	IdleTimeout   time.Duration // 120 s: between requests
	Stall         time.Duration // 60 s: body or answer without progress
	Drain         time.Duration // 25 s: for open requests at the end
	MaxConns      int           // 16384 open connections; more wait in the kernel's queue
	MaxBody       int64         // 8 MiB, except uploads

	Now func() time.Time
}

func (o *Options) defaults() {
	duration := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	duration(&o.HeaderTimeout, 10*time.Second)
	duration(&o.IdleTimeout, 120*time.Second)
	duration(&o.Stall, 60*time.Second)
	duration(&o.Drain, 25*time.Second)
	if o.MaxConns == 0 {
		o.MaxConns = 16384
	}
	if o.MetricsPath == "" {
		o.MetricsPath = "/metrics"
	}
}

// Server is the listeners and what stands behind them.
type Server struct {
	o        Options
	http     *http.Server
	faces    *twoFaced
	debug    *http.Server
	debugTCP net.Listener
	socket   *socket            // nil: none
	abandon  context.CancelFunc // ends the contexts of requests that outlast the drain
}

// New builds a server without opening anything.
func New(o Options) (*Server, error) {
	o.defaults()
	if o.Handler == nil || o.Origin == nil || o.Log == nil || o.Now == nil {
		return nil, errors.New("httpd: Handler, Origin, Log and Now are required")
	}
	var metrics http.Handler
	if o.Metrics != nil {
		metrics = MetricsHandler(o.Metrics.Registry)
	}
	routes := &builtin{next: o.Handler, health: o.Health, certs: o.Certs, allowed: func(r *http.Request) bool {
		if peer, local := OverSocket(r); local {
			return peer.Admitted
		}
		return o.Origin.Local(r) || (o.MetricsAllowed != nil && o.MetricsAllowed(r))
	}}
	if o.ServeMetrics {
		routes.metrics = metrics
	}
	chain := NewChain(ChainOptions{Next: routes, Log: o.Log, Origin: o.Origin, Errors: o.Errors, Metrics: o.Metrics,
		Tracing: o.Tracing, Access: o.Access, Stall: o.Stall, MaxBody: o.MaxBody, Now: o.Now})
	if o.Metrics != nil && o.Access != nil {
		registerDropped(o.Metrics, o.Access)
	}
	handler := answering(chain)
	if o.Certs != nil {
		handler = o.Certs.ChallengeHandler(handler)
	}
	base, abandon := context.WithCancel(context.Background())
	s := &Server{o: o, abandon: abandon, http: o.server(handler)}
	s.http.BaseContext = func(net.Listener) context.Context { return base }
	s.http.ConnContext = connContext
	s.http.ConnState = connState
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(o.HTTP2 && o.Certs != nil)
	s.http.Protocols = protocols
	if o.Certs != nil {
		// net/http looks here whether to speak h2, and writes into it; the handshake is the listener's.
		s.http.TLSConfig = o.Certs.Config().Clone()
	}
	if o.DebugAddr != "" {
		s.debug = o.server(debugHandler(o.Origin, o.Health, metrics, o.MetricsPath))
	}
	return s, nil
}

func (o *Options) tls() *tls.Config {
	if o.Certs == nil {
		return nil
	}
	return o.Certs.Config()
}

func (o *Options) server(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: o.HeaderTimeout,
		IdleTimeout:       o.IdleTimeout,
		MaxHeaderBytes:    netHTTPMaxHeader,
		// Failed handshakes and hang-ups are the callers' business; at info they would be most of the log.
		ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
		HTTP2:    &http.HTTP2Config{WriteByteTimeout: o.Stall, SendPingTimeout: 30 * time.Second},
	}
}

// Listen opens the addresses, so that the caller can say where before it serves. Run does it otherwise.
func (s *Server) Listen(ctx context.Context) error {
	if s.faces != nil {
		return nil
	}
	tcp, err := listen(ctx, s.o.Addr, "--addr")
	if err != nil {
		return err
	}
	if s.debug != nil {
		if s.debugTCP, err = listen(ctx, s.o.DebugAddr, "http.debug.addr:"); err != nil {
			_ = tcp.Close()
			return err
		}
	}
	if s.socket, err = s.openSocket(ctx); err != nil {
		_ = tcp.Close()
		if s.debugTCP != nil {
			_ = s.debugTCP.Close()
		}
		return err
	}
	s.faces = newTwoFaced(tcp, s.o.tls(), s.o.Log, s.o.HeaderTimeout, s.o.Stall, s.o.MaxConns, s.o.Now)
	return nil
}

func (s *Server) openSocket(ctx context.Context) (*socket, error) {
	if s.o.Socket == "" {
		return nil, nil //nolint:nilnil // none was asked for
	}
	l, err := openSocket(ctx, s.o.Socket)
	switch {
	case err == nil:
		return l, nil
	case s.o.SocketOptional:
		s.o.Log.Warn("commands of this machine cannot reach this berthd: its socket cannot be made; see berth.socket", "socket", s.o.Socket, "error", err)
		return nil, nil //nolint:nilnil // see above
	}
	return nil, fmt.Errorf("berth.socket: %s cannot be made: %w", s.o.Socket, err)
}

// Addr is the main address after Listen, with the port that was given for ":0"; nil before.
func (s *Server) Addr() net.Addr {
	if s.faces == nil {
		return nil
	}
	return s.faces.tcp.Addr()
}

// DebugAddr is the debug listener's address after Listen; nil when there is none.
func (s *Server) DebugAddr() net.Addr {
	if s.debugTCP == nil {
		return nil
	}
	return s.debugTCP.Addr()
}

// Reload takes up changed certificates. The old ones stay in use when the new ones are refused.
func (s *Server) Reload() error {
	if s.o.Certs == nil {
		return nil
	}
	return s.o.Certs.Reload()
}

// Run serves until ctx ends and then drains: readiness says no, no new connections, open requests get the drain time,
// what is left is cut. It returns nil after an orderly end, also when requests had to be cut.
func (s *Server) Run(ctx context.Context) error {
	if err := s.Listen(ctx); err != nil {
		return err
	}
	// What serves stops when the drain is over, what helps (access log, certificates) after that.
	helpers, stopHelpers := context.WithCancel(context.WithoutCancel(ctx))
	defer stopHelpers()
	var helping errgroup.Group
	if s.o.Access != nil {
		helping.Go(func() error {
			if err := s.o.Access.Run(helpers); err != nil {
				s.o.Log.Error("access log was not written", "error", err)
			}
			return nil
		})
	}
	if s.o.Certs != nil {
		helping.Go(func() error { return s.o.Certs.Run(helpers) })
	}

	serving, ctx := errgroup.WithContext(ctx)
	serving.Go(func() error { return s.faces.run() })
	serving.Go(func() error { return orderly(s.http.Serve(s.faces.plain)) })
	if s.o.Certs != nil {
		serving.Go(func() error { return orderly(s.http.Serve(s.faces.secure)) })
	}
	if s.debug != nil {
		serving.Go(func() error { return orderly(s.debug.Serve(s.debugTCP)) })
	}
	if s.socket != nil {
		serving.Go(func() error { return orderly(s.http.Serve(s.socket)) })
	}
	serving.Go(func() error {
		<-ctx.Done()
		s.drain()
		return nil
	})
	err := serving.Wait()
	stopHelpers()
	return errors.Join(err, helping.Wait())
}

func (s *Server) drain() {
	defer s.abandon()
	if s.o.Health != nil {
		s.o.Health.Drain()
	}
	deadline, cancel := context.WithTimeout(context.Background(), s.o.Drain)
	defer cancel()
	if err := s.http.Shutdown(deadline); err != nil {
		s.o.Log.Warn("requests were still open after the drain time and are cut", "drain", s.o.Drain)
		s.abandon()
		_ = s.http.Close()
	}
	_ = s.faces.close()
	if s.debug != nil {
		_ = s.debug.Close()
	}
	if s.socket != nil {
		_ = s.socket.Close() // when it was never served
	}
}

func orderly(err error) error {
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
