package metadb

import (
	"context"
	"crypto/tls"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/recall"
)

// How long anything may wait for PostgreSQL, so that a request is answered in bounded time whatever has happened to the
// server or to the network between. What the client's side gives up, the server's side gives up a moment later: a
// replica that has vanished keeps no locks.
const (
	connectWithin  = 3 * time.Second
	queryWithin    = 10 * time.Second
	updateWithin   = 10 * time.Second // with its wait for a connection and for locks, but without the commit
	commitWithin   = 10 * time.Second
	rollbackWithin = time.Second

	// startWithin is how long a start waits for a server that is not there yet.
	startWithin = 20 * time.Second
	// connLifetime has connections made anew now and then: behind a name, the server may have moved.
	connLifetime = 30 * time.Minute

	defaultOutage = 5 * time.Minute
)

// serverSettings are what a session asks of the server.
func serverSettings() map[string]string {
	return map[string]string{
		"statement_timeout": "15s", "lock_timeout": "9s", "idle_in_transaction_session_timeout": "15s",
		"tcp_keepalives_idle": "15", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3", "tcp_user_timeout": "20s",
	}
}

// cluster is PostgreSQL: many processes share it, and each update is a transaction of its own.
type cluster struct {
	url     string
	d       *dialect
	db      *sql.DB
	open    int
	signals *signals
	log     *slog.Logger
	now     func() time.Time
	grace   time.Duration
}

func openPostgres(ctx context.Context, o Options) (*cluster, error) {
	cfg, err := parsePostgres(o.URL)
	if err != nil {
		return nil, err
	}
	d := postgresDialect()
	plain := cfg.Copy() // migrations take as long as they need
	if err := await(ctx, cfg, d, o); err != nil {
		return nil, d.fail(err)
	}
	plain.DefaultQueryExecMode = cfg.DefaultQueryExecMode
	if err := migrateOn(ctx, plain, d, o); err != nil {
		return nil, d.fail(err)
	}
	if o.Outage == 0 {
		o.Outage = defaultOutage
	}
	p := &cluster{url: o.URL, d: d, db: stdlib.OpenDB(*cfg), open: max(o.MaxOpen, 2), signals: newSignals(cfg, d, o), log: o.Log, now: o.Now, grace: o.Grace}
	if o.MaxOpen <= 0 {
		p.open = 16
	}
	p.db.SetMaxOpenConns(p.open)
	p.db.SetMaxIdleConns(p.open)
	p.db.SetConnMaxIdleTime(5 * time.Minute)
	p.db.SetConnMaxLifetime(connLifetime)
	if err := p.start(ctx); err != nil {
		return nil, d.fail(errors.Join(err, p.db.Close()))
	}
	p.signals.start()
	return p, nil
}

func parsePostgres(url string) (*pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, errors.New("metadb: the database URL cannot be parsed; expected postgres://user:password@host:5432/database") // err has the password
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectWithin
	}
	dialer := &net.Dialer{Timeout: cfg.ConnectTimeout, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3,
	}}
	cfg.DialFunc = dialer.DialContext
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "berthd"
	}
	return cfg, nil
}

// await connects once, waiting for a server that starts beside us, and settles how to talk to it: what the URL does not
// say is asked of the server, and a pooler that refuses to pass it on is talked to as poolers need it.
func await(ctx context.Context, cfg *pgx.ConnConfig, d *dialect, o Options) error {
	bare := cfg.Copy()
	for name, value := range serverSettings() {
		if _, said := cfg.RuntimeParams[name]; !said {
			cfg.RuntimeParams[name] = value
		}
	}
	deadline := o.Now().Add(startWithin)
	for pause := 200 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		conn, err := pgx.ConnectConfig(ctx, cfg)
		if err == nil {
			return conn.Close(ctx)
		}
		if refused := (*pgconn.PgError)(nil); errors.As(err, &refused) && strings.Contains(refused.Message, "unsupported startup parameter") {
			o.Log.InfoContext(ctx, "PostgreSQL is behind a pooler: statements are not prepared, and changes by other replicas are seen by looking twice a second unless it passes on notifications")
			bare.DefaultQueryExecMode = pgx.QueryExecModeExec
			*cfg = *bare
			continue
		}
		if advice := tlsAdvice(err); advice != "" {
			return fault.New(fault.Invalid, fault.Unknown, "berth.database.url names a PostgreSQL server that %s", advice).Because(err)
		}
		if d.classify(err) != classUnavailable || !o.Now().Add(pause).Before(deadline) || ctx.Err() != nil {
			return fmt.Errorf("berth.database.url names a database that cannot be used: %w", err)
		}
		o.Log.WarnContext(ctx, "metadata database is unreachable; berthd waits for it", "atMost", startWithin, "err", err)
		if sleep(ctx, pause) != nil {
			return err
		}
	}
}

// tlsAdvice is what to do when the server is there and we do not agree on TLS, which does not change by waiting; "" for
// any other failure.
func tlsAdvice(err error) string {
	certificate := (*tls.CertificateVerificationError)(nil)
	switch {
	case err == nil:
		return ""
	case errors.As(err, &certificate):
		return "shows a certificate which is not trusted: set sslrootcert in the URL to the file of its authority, and use the host name that the certificate has"
	case errors.As(err, new(tls.RecordHeaderError)):
		return "does not speak TLS as PostgreSQL does: check its port"
	case strings.Contains(err.Error(), "server refused TLS connection"): // pgconn has no name for it
		return "does not offer TLS, and sslmode asks for it: switch ssl on in the server, or set sslmode=disable in the URL when the way to it is private"
	}
	return ""
}

func migrateOn(ctx context.Context, cfg *pgx.ConnConfig, d *dialect, o Options) error {
	db := stdlib.OpenDB(*cfg)
	db.SetMaxOpenConns(2)
	return errors.Join(migrate(ctx, db, d, o), db.Close())
}

func (p *cluster) start(ctx context.Context) error {
	var mode string
	var micros int64
	sent := p.now()
	err := p.db.QueryRowContext(ctx, "SELECT current_setting('synchronous_commit'), "+clockMicros).Scan(&mode, &micros)
	if err != nil {
		return err
	}
	p.signals.compare(ctx, sent, time.UnixMicro(micros))
	if mode == "off" {
		p.log.WarnContext(ctx, "PostgreSQL is set to synchronous_commit=off: pushes that were answered can be lost at a power failure")
	}
	return nil
}

func (p *cluster) exec(ctx context.Context, query string, args ...any) (int64, error) {
	return 0, errors.New("metadb: a change outside a transaction")
}

func (p *cluster) query(ctx context.Context, each func(*sql.Rows) error, query string, args ...any) error {
	if err := p.signals.unreachable(); err != nil {
		return err
	}
	limited, stop := context.WithTimeout(ctx, queryWithin)
	defer stop()
	rows, err := p.db.QueryContext(limited, query, args...)
	if err != nil && lostConnection(err) && limited.Err() == nil {
		p.dropIdle() // of a server that has restarted, all are as dead as this one
		rows, err = p.db.QueryContext(limited, query, args...)
	}
	if err == nil {
		err = collect(rows, each)
	}
	return p.timely(ctx, err)
}

// dropIdle closes the connections that nobody uses, and has the signals see what is the matter.
func (p *cluster) dropIdle() {
	p.signals.kick()
	p.db.SetMaxIdleConns(-1)
	p.db.SetMaxIdleConns(p.open)
}

// timely names a time-out of ours, which is the server's fault and not the caller's; and of a caller that has left it says
// so, although what ended is the connection that its leaving has closed.
func (p *cluster) timely(ctx context.Context, err error) error {
	if left := ctx.Err(); left != nil && errors.Is(err, driver.ErrBadConn) {
		return left
	}
	if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	f := fault.New(fault.Unavailable, fault.UnavailableReason, "metadata database does not answer in time; try again").Because(err)
	f.After = 2
	return f
}

// check asks nothing while the signals have looked a moment ago, so that a busy pool is not taken for a dead server.
func (p *cluster) check(ctx context.Context) error {
	if err := p.signals.unreachable(); err != nil {
		return err
	}
	if p.signals.trust() == recall.Current {
		return nil
	}
	if err := p.db.PingContext(ctx); err != nil {
		return p.d.fail(fmt.Errorf("ping: %w", err))
	}
	return nil
}

func (p *cluster) close() error {
	p.signals.close()
	return p.db.Close()
}
