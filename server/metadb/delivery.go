package metadb

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"time"

	"github.com/berth-registry/berth/server/event"
)

// ErrFenced says that somebody else has taken over what the caller held, and nothing was changed.
var ErrFenced = errors.New("metadb: another process has taken this over")

// OutboxEnd is a cursor behind all events.
func OutboxEnd() event.Cursor { return event.Cursor{Epoch: math.MaxInt64, ID: math.MaxInt64} }

// Delivery is how far an endpoint of notifications has got, and who delivers to it.
type Delivery struct {
	Endpoint    string
	Cursor      event.Cursor
	Holder      string // "" for nobody
	Fence       int64
	LeaseUntil  time.Time // by the database's clock
	DeliveredAt time.Time // last success; zero for none
	FailedAt    time.Time // last failure; zero for none
	Failure     string
	Lost        int64 // events that were trimmed before the endpoint had them
}

const deliveryColumns = `SELECT endpoint, epoch, event, holder, fence, lease_until, delivered_at, failed_at, failure, lost FROM delivery `

func scanDelivery(rows *sql.Rows, d *Delivery) error {
	return rows.Scan(&d.Endpoint, &d.Cursor.Epoch, &d.Cursor.ID, &d.Holder, &d.Fence, micros{&d.LeaseUntil},
		micros{&d.DeliveredAt}, micros{&d.FailedAt}, &d.Failure, &d.Lost)
}

// Deliveries are those of all endpoints that ever were, by name.
func (r *Reads) Deliveries(ctx context.Context) ([]Delivery, error) {
	return many(ctx, r.s, scanDelivery, deliveryColumns+`WHERE endpoint <> '' ORDER BY endpoint`)
}

// Delivery is that of one endpoint, or ErrNotFound.
func (r *Reads) Delivery(ctx context.Context, endpoint string) (Delivery, error) {
	return one(ctx, r.s, scanDelivery, deliveryColumns+`WHERE endpoint = $1`, endpoint)
}

// EnsureDelivery makes the endpoint known. A new one begins with what happens from now on; created says so.
func (tx *Tx) EnsureDelivery(endpoint string) (created bool, err error) {
	n, err := tx.exec(`INSERT INTO delivery (endpoint, epoch, event) SELECT $1, `+tx.d.outboxEnd+` WHERE TRUE ON CONFLICT (endpoint) DO NOTHING`, endpoint)
	return n == 1, err
}

// LeaseDelivery takes the endpoint for so long, unless somebody else has it: held is false then. The fence of the
// answer goes into every change.
func (tx *Tx) LeaseDelivery(endpoint, holder string, hold time.Duration) (d Delivery, held bool, err error) {
	n, err := tx.exec(`UPDATE delivery SET holder = $2, fence = fence + 1, lease_until = $4 WHERE endpoint = $1 AND (lease_until < $3 OR holder = '')`,
		endpoint, holder, toMicros(tx.clock()), toMicros(tx.clock().Add(hold)))
	if err != nil || n == 0 {
		return d, false, err
	}
	d, err = tx.Delivery(tx.ctx, endpoint)
	return d, err == nil, err
}

// RenewDelivery keeps the endpoint for so long from now, or is ErrFenced.
func (tx *Tx) RenewDelivery(endpoint string, fence int64, hold time.Duration) error {
	return tx.fenced(`UPDATE delivery SET lease_until = $3 WHERE endpoint = $1 AND fence = $2`, endpoint, fence, toMicros(tx.clock().Add(hold)))
}

// ReleaseDelivery lets another take the endpoint at once, or is ErrFenced.
func (tx *Tx) ReleaseDelivery(endpoint string, fence int64) error {
	return tx.fenced(`UPDATE delivery SET holder = '', lease_until = 0 WHERE endpoint = $1 AND fence = $2`, endpoint, fence)
}

// FreeDeliveries takes all endpoints from their holders, for a process that knows that it is alone.
func (tx *Tx) FreeDeliveries() error {
	_, err := tx.exec(`UPDATE delivery SET holder = '', lease_until = 0, fence = fence + 1 WHERE holder <> ''`)
	return err
}

// SaveDelivery moves the cursor to what the endpoint has got, or is ErrFenced.
func (tx *Tx) SaveDelivery(endpoint string, fence int64, c event.Cursor) error {
	return tx.fenced(`UPDATE delivery SET epoch = $3, event = $4 WHERE endpoint = $1 AND fence = $2`, endpoint, fence, c.Epoch, c.ID)
}

// NoteDelivery records the last success and failure that were seen, or is ErrFenced. Zero times, and a failure with one,
// change nothing.
func (tx *Tx) NoteDelivery(endpoint string, fence int64, delivered, failed time.Time, failure string) error {
	return tx.fenced(`UPDATE delivery SET delivered_at = CASE WHEN CAST($3 AS BIGINT) = 0 THEN delivered_at ELSE $3 END,
		failure = CASE WHEN CAST($4 AS BIGINT) = 0 THEN failure ELSE $5 END, failed_at = CASE WHEN $4 = 0 THEN failed_at ELSE $4 END
		WHERE endpoint = $1 AND fence = $2`, endpoint, fence, toMicros(delivered), toMicros(failed), failure)
}

// fenced runs a change whose second argument is the fence.
func (tx *Tx) fenced(query string, args ...any) error {
	n, err := tx.exec(query, args...)
	if err == nil && n == 0 {
		err = ErrFenced
	}
	return err
}

// RewindDelivery sets the endpoint's cursor, back or forth, and takes it from its holder, who will find out at its next
// change; ErrNotFound without such an endpoint.
func (tx *Tx) RewindDelivery(endpoint string, c event.Cursor) error {
	n, err := tx.exec(`UPDATE delivery SET epoch = $2, event = $3, fence = fence + 1, holder = '', lease_until = 0 WHERE endpoint = $1`,
		endpoint, c.Epoch, c.ID)
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return err
}

// Before is the cursor in front of the first event that is not older than since and does not have a smaller id than
// from; ErrNotFound when there is none. Either may be zero.
func (r *Reads) Before(ctx context.Context, since time.Time, from int64) (event.Cursor, error) {
	c, err := one(ctx, r.s, func(rows *sql.Rows, c *event.Cursor) error { return rows.Scan(&c.Epoch, &c.ID) },
		`SELECT epoch, id FROM event WHERE at >= $1 AND id >= $2 ORDER BY epoch, id LIMIT 1`, toMicros(since), from)
	c.ID--
	return c, err
}

// Behind counts up to limit events behind a cursor, and says when the first of them happened.
func (r *Reads) Behind(ctx context.Context, c event.Cursor, limit int) (n int, oldest time.Time, err error) {
	type answer struct {
		n      int
		oldest time.Time
	}
	a, err := one(ctx, r.s, func(rows *sql.Rows, a *answer) error { return rows.Scan(&a.n, micros{&a.oldest}) },
		`SELECT COUNT(*), COALESCE(MIN(at), 0) FROM (SELECT at FROM event WHERE `+r.d.behind+` LIMIT $3) behind`,
		c.Epoch, c.ID, limit)
	return a.n, a.oldest, err
}

// EventSpan is the number of the oldest event and of the newest: without gaps, which are rare, how many there are.
func (r *Reads) EventSpan(ctx context.Context) (oldest, newest int64, err error) {
	type span struct{ oldest, newest int64 }
	s, err := one(ctx, r.s, func(rows *sql.Rows, s *span) error { return rows.Scan(&s.oldest, &s.newest) },
		`SELECT COALESCE((SELECT id FROM event ORDER BY id LIMIT 1), 0), COALESCE((SELECT id FROM event ORDER BY id DESC LIMIT 1), 0)`)
	return s.oldest, s.newest, err
}

// DropEvents removes up to limit of the oldest events, as long as their id is less than below, although endpoints may
// not have them. It counts them as lost for those of the endpoints that do not; lost is the largest such count.
func (tx *Tx) DropEvents(below int64, limit int, endpoints []string) (dropped, lost int64, err error) {
	last, err := one(tx.ctx, tx.s, column[int64], `SELECT COALESCE(MAX(id), 0) FROM (SELECT id FROM event WHERE id < $1 ORDER BY id LIMIT $2) oldest`, below, limit)
	if err != nil || last == 0 {
		return 0, 0, err
	}
	for _, name := range endpoints {
		n, err := one(tx.ctx, tx.s, column[int64], `SELECT COUNT(*) FROM event e JOIN delivery d ON (e.epoch, e.id) > (d.epoch, d.event)
			WHERE d.endpoint = $1 AND e.id <= $2`, name, last)
		if err != nil {
			return 0, 0, err
		}
		if n > 0 {
			if _, err := tx.exec(`UPDATE delivery SET lost = lost + $2 WHERE endpoint = $1`, name, n); err != nil {
				return 0, 0, err
			}
		}
		lost = max(lost, n)
	}
	end, err := one(tx.ctx, tx.s, scanCursor, `SELECT epoch, id FROM event WHERE id <= $1 ORDER BY epoch DESC, id DESC LIMIT 1`, last)
	if err == nil {
		err = tx.noteTrimmed(end)
	}
	if err != nil {
		return 0, 0, err
	}
	dropped, err = tx.exec(`DELETE FROM event WHERE id <= $1`, last)
	return dropped, lost, err
}

// Parked is an event that an endpoint would not take, or that waits behind such a one of its repository.
type Parked struct {
	Seq        int64 // set by the database; the order of delivery
	Endpoint   string
	EventID    string // as the endpoint sees it
	Repository string
	Body       string    // the event as it is sent
	Since      time.Time // first failure
	Attempts   int64
	NextAt     time.Time // not before; zero for at once
	Failure    string    // the last one
	Dead       bool      // given up
}

const parkedColumns = `SELECT p.seq, p.endpoint, p.event_id, p.repository, p.body, p.since, p.attempts, p.next_at, p.failure, p.dead FROM delivery_parked p `

func scanParked(rows *sql.Rows, p *Parked) error {
	return rows.Scan(&p.Seq, &p.Endpoint, &p.EventID, &p.Repository, &p.Body, micros{&p.Since}, &p.Attempts, micros{&p.NextAt}, &p.Failure, &p.Dead)
}

// Park keeps an event for later. One that is there already, also a dead one, stays as it is.
func (tx *Tx) Park(p Parked) error {
	_, err := tx.exec(`INSERT INTO delivery_parked (endpoint, event_id, repository, body, since, attempts, next_at, failure, dead)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (endpoint, event_id) DO NOTHING`,
		p.Endpoint, p.EventID, p.Repository, p.Body, toMicros(p.Since), p.Attempts, toMicros(p.NextAt), p.Failure, p.Dead)
	return err
}

// Unpark ends the wait of an event that was delivered.
func (tx *Tx) Unpark(seq int64) error {
	_, err := tx.exec(`DELETE FROM delivery_parked WHERE seq = $1`, seq)
	return err
}

// UpdateParked records another failure of a parked event.
func (tx *Tx) UpdateParked(p Parked) error {
	_, err := tx.exec(`UPDATE delivery_parked SET since = $2, attempts = $3, next_at = $4, failure = $5, dead = $6 WHERE seq = $1`,
		p.Seq, toMicros(p.Since), p.Attempts, toMicros(p.NextAt), p.Failure, p.Dead)
	return err
}

// HurryParked lets the waiting events of an endpoint be tried at once.
func (tx *Tx) HurryParked(endpoint string) error {
	_, err := tx.exec(`UPDATE delivery_parked SET next_at = 0 WHERE endpoint = $1 AND NOT dead AND next_at > 0`, endpoint)
	return err
}

// ParkedHeads are up to limit parked events that may be tried at that time: the first of its repository each.
func (r *Reads) ParkedHeads(ctx context.Context, endpoint string, at time.Time, limit int) ([]Parked, error) {
	return many(ctx, r.s, scanParked, parkedColumns+`WHERE p.endpoint = $1 AND NOT p.dead AND p.next_at <= $2 AND NOT EXISTS (
		SELECT 1 FROM delivery_parked q WHERE q.endpoint = p.endpoint AND NOT q.dead AND q.repository = p.repository AND q.seq < p.seq)
		ORDER BY p.next_at, p.seq LIMIT $3`, endpoint, toMicros(at), limit)
}

// ParkedRepositories are those with events that wait, without dead ones.
func (r *Reads) ParkedRepositories(ctx context.Context, endpoint string) ([]string, error) {
	return many(ctx, r.s, column[string], `SELECT DISTINCT repository FROM delivery_parked WHERE endpoint = $1 AND NOT dead`, endpoint)
}

// CountParked counts an endpoint's parked events, those that wait and the dead ones.
func (r *Reads) CountParked(ctx context.Context, endpoint string) (waiting, dead int64, err error) {
	type counts struct{ waiting, dead int64 }
	c, err := one(ctx, r.s, func(rows *sql.Rows, c *counts) error { return rows.Scan(&c.waiting, &c.dead) },
		`SELECT COALESCE(SUM(CASE WHEN dead THEN 0 ELSE 1 END), 0), COALESCE(SUM(CASE WHEN dead THEN 1 ELSE 0 END), 0)
		FROM delivery_parked WHERE endpoint = $1`, endpoint)
	return c.waiting, c.dead, err
}

// DeadLetters are up to limit events that were given up, behind that seq.
func (r *Reads) DeadLetters(ctx context.Context, endpoint string, after int64, limit int) ([]Parked, error) {
	return many(ctx, r.s, scanParked, parkedColumns+`WHERE p.endpoint = $1 AND p.dead AND p.seq > $2 ORDER BY p.seq LIMIT $3`, endpoint, after, limit)
}

// ReviveDead lets all dead letters of an endpoint be tried again, and takes it from its holder, who has to know.
func (tx *Tx) ReviveDead(endpoint string) (n int64, err error) {
	c, err := tx.Delivery(tx.ctx, endpoint)
	if err != nil {
		return 0, err
	}
	if err := tx.RewindDelivery(endpoint, c.Cursor); err != nil {
		return 0, err
	}
	return tx.exec(`UPDATE delivery_parked SET dead = FALSE, since = $2, attempts = 0, next_at = 0 WHERE endpoint = $1 AND dead`, endpoint, toMicros(tx.now))
}

// DropDead removes an endpoint's oldest dead letters beyond the newest keep, and says how many.
func (tx *Tx) DropDead(endpoint string, keep int) (n int64, err error) {
	return tx.exec(`DELETE FROM delivery_parked WHERE endpoint = $1 AND dead AND seq <= (
		SELECT seq FROM delivery_parked WHERE endpoint = $1 AND dead ORDER BY seq DESC LIMIT 1 OFFSET $2)`, endpoint, keep)
}

// HoldDelivery makes sure that the caller holds the endpoint until the transaction ends, or is ErrFenced: changes of
// parked events begin with it.
func (tx *Tx) HoldDelivery(endpoint string, fence int64) error {
	got, err := one(tx.ctx, tx.s, column[int64], `SELECT fence FROM delivery WHERE endpoint = $1`+tx.d.forUpdate, endpoint)
	if err == nil && got != fence {
		err = ErrFenced
	}
	return err
}
