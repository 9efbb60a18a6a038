package metadb

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/recall"
)

// What caches remember of a PostgreSQL that other replicas change too.
//
// A transaction that changes or removes a row that a cache may hold writes down which, in the table cache_change. Every
// replica reads what was written since its last look, twice a second and whenever another one calls it by NOTIFY, and
// forgets it. NOTIFY only makes it quick: it is sent after the commit, without a payload and at most one at a time,
// because a NOTIFY inside a transaction makes all transactions of the server commit one after the other (measured: a
// quarter of the throughput at 32 connections). When one is lost, the next look finds the same rows.
//
// A look asks for the rows of transactions that its predecessor's snapshot did not see, so none is missed whatever the
// order in which they commit, and none comes twice. Creating a row needs no signal: caches remember nothing that is not
// there.

const (
	// TrustFor bounds how long after a change was acknowledged by one replica another may still answer from memory as
	// before, while it can reach the database: what was remembered is not believed when the last look that succeeded
	// began longer ago. Normally it is some milliseconds. What an operator changes in a SQLite file is seen within it too.
	TrustFor = 2 * time.Second

	lookEvery   = 500 * time.Millisecond
	lookWithin  = time.Second
	lookPause   = 4 * time.Millisecond // at least, between two looks of a storm
	lookLimit   = 1000                 // more changes than this, and everything is forgotten
	changeLimit = 64                   // of one transaction
	trimEvery   = time.Minute
	trimAfter   = 5 // times trimEvery
	gapAfter    = 2 * trimEvery
	skewWarning = 30 * time.Second
)

// clockMicros is the database's clock.
const clockMicros = `(extract(epoch FROM clock_timestamp()) * 1000000)::bigint`

// ChangeKind says which kind of row has changed.
type ChangeKind int16

// The kinds of changes, and what identifies the row.
const (
	Everything     ChangeKind = 0 // nothing that is remembered may be used any more
	TagChanged     ChangeKind = 1 // ID of the repository, Key is the tag
	ManifestGone   ChangeKind = 2 // ID of the repository, Key is the digest
	BlobGone       ChangeKind = 3 // ID of the repository, Key is the digest
	ProjectChanged ChangeKind = 4 // Key is the name
	AccountChanged ChangeKind = 5 // Key is the name; also when the account's groups changed
	KeysChanged    ChangeKind = 6 // the signing keys

	GrantsChanged   ChangeKind = 7  // ID of the subject, Key its SubjectKind as a word: what it may do, or that it is gone
	RoleChanged     ChangeKind = 8  // Key is the name
	RobotChanged    ChangeKind = 9  // ID, Key is the name; also its secrets
	TokenChanged    ChangeKind = 10 // ID of a personal access token
	SessionChanged  ChangeKind = 11 // ID of a session, Key is its hash
	ProviderChanged ChangeKind = 12 // Key is the name of an identity provider
)

// Change is a row that caches have to forget.
type Change struct {
	Kind ChangeKind
	ID   int64
	Key  string
}

// Watch calls forget with every change of rows by other processes, from one goroutine, before the change may be
// overlooked; forget must be quick. On SQLite it is called with Everything, see beside.go.
func (db *DB) Watch(forget func(Change)) {
	switch b := db.backend.(type) {
	case *cluster:
		b.signals.watch(forget)
	case *lite:
		b.others.watch(forget)
	}
}

// WatchAll is Watch, and calls forget also with the changes by this process of what decides who may do what
// (ProjectChanged and later kinds): after the commit and before whoever made the change is answered. forget must bear to be
// called from several goroutines.
func (db *DB) WatchAll(forget func(Change)) {
	db.d.own.watch(forget)
	db.Watch(forget)
}

// watchers are told of this process's own changes.
type watchers struct {
	mu  sync.RWMutex
	all []func(Change)
}

func (w *watchers) watch(forget func(Change)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, forget)
}

func (w *watchers) tell(c Change) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	for _, f := range w.all {
		f(c)
	}
}

// Trust says how far what was remembered of this database may be believed: Current is at most TrustFor behind, Doubtful
// is not heard of for longer, Expired for longer than Options.Outage. It is nil on SQLite: always Current.
func (db *DB) Trust() func() recall.Trust {
	if p, ok := db.backend.(*cluster); ok {
		return p.signals.trust
	}
	return nil
}

// changed writes down what caches have to forget when the transaction commits.
func (tx *Tx) changed(k ChangeKind, id int64, key string) {
	c := Change{k, id, key}
	if tx.d.signals {
		tx.changes = append(tx.changes, c)
	}
	if k >= ProjectChanged { // of the others the engine that makes them tells its caches
		tx.AfterCommit(func() { tx.d.own.tell(c) })
	}
}

// announceChanges is the last statement of a transaction.
func (tx *Tx) announceChanges(origin int64) error {
	changes := tx.changes
	if len(changes) > changeLimit {
		changes = []Change{{Kind: Everything}}
	}
	var b strings.Builder
	b.WriteString(`INSERT INTO cache_change (origin, kind, ref, key) VALUES `)
	width := paddedLen(len(changes))
	placeholders(&b, 1, width, 3, "$1,")
	args := make([]any, 1, 1+3*width)
	args[0] = origin
	for i := range width {
		c := changes[min(i, len(changes)-1)]
		args = append(args, int16(c.Kind), c.ID, c.Key)
	}
	_, err := tx.exec(b.String(), args...)
	return err
}

// signals is the one connection of a replica on which it hears of changes. It also knows first whether the database can
// be reached, so that nobody else has to wait for a time-out to learn it.
type signals struct {
	cfg    *pgx.ConnConfig
	d      *dialect
	log    logger
	now    func() time.Time
	outage time.Duration

	base   time.Time
	seen   atomic.Int64 // when the last look that succeeded began, since base; 0 before the first
	origin atomic.Int64 // marks our own changes, which need no second forgetting
	offset atomic.Int64 // of the database's clock from ours, in nanoseconds
	down   atomic.Pointer[fault.Error]
	skewed bool

	mu      sync.Mutex
	forget  []func(Change)
	wake    context.CancelFunc // interrupts the wait
	poked   atomic.Bool        // others are to be called
	stopped context.CancelFunc
	done    chan struct{}
}

type logger interface {
	InfoContext(ctx context.Context, msg string, args ...any)
	WarnContext(ctx context.Context, msg string, args ...any)
}

func newSignals(cfg *pgx.ConnConfig, d *dialect, o Options) *signals {
	cfg = cfg.Copy()
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec // nothing is prepared: a pooler may be in between
	cfg.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) {}
	s := &signals{cfg: cfg, d: d, log: o.Log, now: o.Now, outage: o.Outage, base: o.Now().Add(-time.Second), done: make(chan struct{})}
	s.origin.Store(rand.Int64())
	return s
}

// start begins to listen. It does not wait for the first look: until then nothing is believed.
func (s *signals) start() {
	ctx, stop := context.WithCancel(context.Background())
	s.stopped = stop
	go s.run(ctx)
}

func (s *signals) close() {
	if s.stopped == nil {
		return
	}
	s.stopped()
	<-s.done
}

func (s *signals) watch(forget func(Change)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget = append(s.forget, forget)
}

func (s *signals) tell(changes ...Change) {
	s.mu.Lock()
	forget := s.forget
	s.mu.Unlock()
	for _, f := range forget {
		for _, c := range changes {
			f(c)
		}
	}
}

// Clock is the clock that all replicas share: ours, corrected by how far it is from the database's when that is more than
// a moment. It is nil on SQLite.
func (db *DB) Clock() func() time.Time {
	if p, ok := db.backend.(*cluster); ok {
		return p.signals.clock
	}
	return nil
}

// aMoment is how far clocks may differ without any harm.
const aMoment = 2 * time.Second

func (s *signals) clock() time.Time {
	if offset := time.Duration(s.offset.Load()); offset.Abs() > aMoment {
		return s.now().Add(offset)
	}
	return s.now()
}

// trust is asked for every use of a cache.
func (s *signals) trust() recall.Trust {
	seen := s.seen.Load()
	if seen == 0 {
		return recall.Expired
	}
	switch age := s.now().Sub(s.base) - time.Duration(seen); {
	case age < TrustFor:
		return recall.Current
	case age < s.outage:
		return recall.Doubtful
	}
	return recall.Expired
}

// unreachable is why nobody should try to reach the database at this moment, or nil.
func (s *signals) unreachable() error {
	if f := s.down.Load(); f != nil {
		return f
	}
	return nil
}

// poke has the other replicas look soon; kick has this one look. Neither waits.
func (s *signals) poke() {
	s.poked.Store(true)
	s.kick()
}

func (s *signals) kick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wake != nil {
		s.wake()
	}
}

// estrange makes our own changes count as another's: the outcome of one is not known, and it may come to pass later.
func (s *signals) estrange() { s.origin.Store(rand.Int64()) }

// run listens, and begins again whenever the connection is lost.
func (s *signals) run(ctx context.Context) {
	defer close(s.done)
	for pause := time.Duration(0); ; {
		began := s.now()
		err := s.listen(ctx)
		if ctx.Err() != nil {
			return
		}
		if s.now().Sub(began) > 10*time.Second {
			pause = 0
		}
		s.lost(ctx, err)
		_ = sleep(ctx, pause/2+rand.N(pause/2+time.Millisecond))
		pause = min(max(2*pause, 50*time.Millisecond), time.Second)
	}
}

// lost records why there is no connection.
func (s *signals) lost(ctx context.Context, err error) {
	var connect *pgconn.ConnectError
	if !errors.As(err, &connect) {
		s.log.WarnContext(ctx, "lost the connection on which changes by other replicas are heard; what is remembered is forgotten", "err", err)
		return
	}
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "53300" {
		s.log.WarnContext(ctx, "PostgreSQL has no connection left to hear of changes by other replicas; until it has, every request asks the database", "err", err)
		return // the pool may have some
	}
	if s.down.Swap(unreachableFault(err)) == nil {
		s.log.WarnContext(ctx, "metadata database is unreachable; pulls go on from memory where they can", "atMost", s.outage, "err", err)
	}
}

// listen connects, and looks until the connection fails.
func (s *signals) listen(ctx context.Context) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer func() {
		ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), lookWithin)
		defer stop()
		_ = conn.Close(ctx)
	}()
	at := s.now()
	last, err := s.look(ctx, conn, view{})
	if err != nil {
		return err
	}
	// In this order: what is remembered from before the first look is gone before anything is believed.
	s.tell(Change{Kind: Everything})
	s.seen.Store(int64(at.Sub(s.base)))
	if s.down.Swap(nil) != nil {
		s.log.InfoContext(ctx, "metadata database is reachable again")
	}
	trim := trimmer{}
	for {
		s.rest(ctx, conn)
		if err := s.call(ctx, conn); err != nil {
			return err
		}
		at := s.now()
		next, err := s.look(ctx, conn, last)
		if err != nil {
			return err
		}
		if next.at.Sub(last.at) > gapAfter || len(next.changes) == lookLimit {
			next.changes = []Change{{Kind: Everything}} // rows may have been trimmed, or are too many
		}
		s.tell(next.changes...)
		s.seen.Store(int64(at.Sub(s.base)))
		last = next
		if err := trim.do(ctx, conn, next); err != nil {
			return err
		}
	}
}

func (s *signals) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, stop := context.WithTimeout(ctx, connectWithin)
	defer stop()
	conn, err := pgx.ConnectConfig(ctx, s.cfg)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "LISTEN berth_cache_change"); err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	return conn, nil
}

// rest waits until there may be something to see: a call, our own wish to call, or the end of lookEvery.
func (s *signals) rest(ctx context.Context, conn *pgx.Conn) {
	_ = sleep(ctx, lookPause)
	wait, stop := context.WithTimeout(ctx, lookEvery)
	defer stop()
	s.mu.Lock()
	s.wake = stop
	s.mu.Unlock()
	if s.poked.Load() { // it may have been before wake was set
		stop()
	}
	_ = conn.PgConn().WaitForNotification(wait) // an error that is more than the end of the wait shows at once in the look
	s.mu.Lock()
	s.wake = nil
	s.mu.Unlock()
}

// call has the others look. Nothing is lost when it is not heard, so it does not wait for the disk.
func (s *signals) call(ctx context.Context, conn *pgx.Conn) error {
	if !s.poked.Swap(false) {
		return nil
	}
	ctx, stop := context.WithTimeout(ctx, lookWithin)
	defer stop()
	_, err := conn.Exec(ctx, "SELECT set_config('synchronous_commit', 'off', true), pg_notify('berth_cache_change', '')")
	return err
}

// view is what a look saw.
type view struct {
	snapshot string
	at       time.Time // by the database's clock
	changes  []Change
}

// look reads the changes that came since the view before; the zero view only marks the place.
func (s *signals) look(ctx context.Context, conn *pgx.Conn, before view) (v view, err error) {
	ctx, stop := context.WithTimeout(ctx, lookWithin)
	defer stop()
	sent := s.now()
	if before.snapshot == "" {
		var micros int64
		err := conn.QueryRow(ctx, `SELECT pg_current_snapshot()::text, `+clockMicros).Scan(&v.snapshot, &micros)
		return s.seenAt(ctx, v, sent, micros, err)
	}
	rows, err := conn.Query(ctx, `SELECT here.snapshot::text, here.at, c.kind, c.ref, c.key
		FROM (SELECT pg_current_snapshot() AS snapshot, `+clockMicros+` AS at) here
		LEFT JOIN cache_change c ON c.epoch >= pg_snapshot_xmin($1::text::pg_snapshot)::text::bigint
			AND NOT pg_visible_in_snapshot(c.epoch::text::xid8, $1::text::pg_snapshot) AND c.origin <> $2
		LIMIT $3`, before.snapshot, s.origin.Load(), lookLimit)
	if err != nil {
		return v, err
	}
	var at int64
	var kind *int16
	var ref *int64
	var key *string
	_, err = pgx.ForEachRow(rows, []any{&v.snapshot, &at, &kind, &ref, &key}, func() error {
		if kind != nil {
			v.changes = append(v.changes, Change{ChangeKind(*kind), *ref, *key})
		}
		return nil
	})
	return s.seenAt(ctx, v, sent, at, err)
}

// seenAt completes a look that succeeded with its time.
func (s *signals) seenAt(ctx context.Context, v view, sent time.Time, micros int64, err error) (view, error) {
	if err == nil {
		v.at = time.UnixMicro(micros)
		s.compare(ctx, sent, v.at)
	}
	return v, err
}

// compare takes note of how our clock differs from the database's.
func (s *signals) compare(ctx context.Context, sent, at time.Time) {
	offset := at.Sub(sent.Round(0).Add(s.now().Sub(sent) / 2))
	s.offset.Store(int64(offset))
	if skewed := offset.Abs() > skewWarning; skewed != s.skewed {
		s.skewed = skewed
		if skewed {
			s.log.WarnContext(ctx, "clock of this machine differs from the metadata database's; let NTP set both", "ahead", (-offset).Round(time.Second))
		}
	}
}

// trimmer removes changes that every replica has seen, or that are behind a gap for it.
type trimmer struct {
	next  time.Time
	marks []string // snapshots, one per trimEvery, oldest first
}

func (t *trimmer) do(ctx context.Context, conn *pgx.Conn, v view) error {
	if v.at.Before(t.next) {
		return nil
	}
	t.next = v.at.Add(trimEvery)
	if t.marks = append(t.marks, v.snapshot); len(t.marks) <= trimAfter {
		return nil
	}
	oldest := t.marks[0]
	t.marks = t.marks[1:]
	ctx, stop := context.WithTimeout(ctx, lookWithin)
	defer stop()
	_, err := conn.Exec(ctx, `DELETE FROM cache_change WHERE ctid IN (SELECT ctid FROM cache_change
		WHERE epoch < pg_snapshot_xmin($1::text::pg_snapshot)::text::bigint LIMIT 20000 FOR UPDATE SKIP LOCKED)`, oldest)
	if err != nil {
		return fmt.Errorf("metadb: trim changes: %w", err)
	}
	return nil
}
