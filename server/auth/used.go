package auth

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/berth-registry/berth/server/metadb"
)

const (
	// flushEvery is how often what was used is written down. A request that is authenticated writes nothing.
	flushEvery = 30 * time.Second
	// trimEvery is how often what has ended is removed; keepEnded is how long it is kept for people to see.
	trimEvery = time.Hour
	keepEnded = 30 * 24 * time.Hour
	// flushRows bounds what one transaction writes.
	flushRows = 500
)

// use is when something was used last, and from where.
type use struct {
	at   time.Time
	from string
}

// uses gathers what was used since the last flush, and the failed logins of accounts.
type uses struct {
	now func() time.Time

	mu                       sync.Mutex
	robots, tokens, sessions map[int64]use
	accounts                 map[int64]time.Time
	failed                   map[string]int // failures by account
	logins                   map[int64]time.Time
	seenAt                   map[int64]time.Time // of sessions, for longer than until the next flush
}

func newUses(now func() time.Time) *uses {
	u := &uses{now: now, seenAt: map[int64]time.Time{}}
	u.clear()
	return u
}

func (u *uses) clear() {
	u.robots, u.tokens, u.sessions = map[int64]use{}, map[int64]use{}, map[int64]use{}
	u.accounts, u.logins, u.failed = map[int64]time.Time{}, map[int64]time.Time{}, map[string]int{}
}

func (u *uses) note(change func(now time.Time)) {
	now := u.now()
	u.mu.Lock()
	defer u.mu.Unlock()
	change(now)
}

func (u *uses) robot(id int64, from string) {
	u.note(func(now time.Time) { u.robots[id] = use{now, from} })
}
func (u *uses) token(id int64, from string) {
	u.note(func(now time.Time) { u.tokens[id] = use{now, from} })
}
func (u *uses) account(id int64) { u.note(func(now time.Time) { u.accounts[id] = now }) }
func (u *uses) login(id int64) {
	u.note(func(now time.Time) { u.logins[id], u.accounts[id] = now, now })
}
func (u *uses) failure(name string) { u.note(func(time.Time) { u.failed[name]++ }) }

func (u *uses) session(id int64, from string) {
	u.note(func(now time.Time) { u.sessions[id], u.seenAt[id] = use{now, from}, now })
}

// seen is when a session was used last: as this process knows, or as the database does.
func (u *uses) seen(id int64, row time.Time) time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	if at := u.seenAt[id]; at.After(row) {
		return at
	}
	return row
}

// take gives what was gathered and begins anew.
func (u *uses) take(idle time.Duration) *uses {
	now := u.now()
	u.mu.Lock()
	defer u.mu.Unlock()
	maps.DeleteFunc(u.seenAt, func(_ int64, at time.Time) bool { return now.Sub(at) > idle })
	taken := &uses{robots: u.robots, tokens: u.tokens, sessions: u.sessions, accounts: u.accounts, logins: u.logins, failed: u.failed}
	u.clear()
	return taken
}

// Run writes down what was used, asks directories again about who uses its account, and removes what has ended, until ctx
// ends. It is a loop of berthd's own.
func (s *Service) Run(ctx context.Context) error {
	flush, trim := time.NewTicker(flushEvery), time.NewTicker(trimEvery)
	defer flush.Stop()
	defer trim.Stop()
	if err := s.endAbsent(ctx); err != nil && ctx.Err() == nil {
		s.o.Log.WarnContext(ctx, "tokens of accounts that left their source could not be ended", "error", err)
	}
	for {
		select {
		case <-ctx.Done():
			last, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer stop()
			_ = s.flush(last, false) // what is lost is when something was used last
			return nil
		case <-flush.C:
			if err := s.flush(ctx, true); err != nil && ctx.Err() == nil {
				s.o.Log.WarnContext(ctx, "uses of accounts, robots and tokens could not be written", "error", err)
			}
		case <-trim.C:
			if err := s.trim(ctx); err != nil && ctx.Err() == nil {
				s.o.Log.WarnContext(ctx, "ended sessions and tokens could not be removed", "error", err)
			}
		}
	}
}

// flush writes what was gathered; with recheck it also asks the directories about the accounts that were used.
func (s *Service) flush(ctx context.Context, recheck bool) error {
	u := s.used.take(s.o.SessionIdle)
	var writes []func(*metadb.Tx) error
	for id, v := range u.robots {
		writes = append(writes, func(tx *metadb.Tx) error { return tx.SetRobotUsed(id, v.at, v.from) })
	}
	for id, v := range u.tokens {
		writes = append(writes, func(tx *metadb.Tx) error { return tx.SetTokenUsed(id, v.at, v.from) })
	}
	for id, v := range u.sessions {
		writes = append(writes, func(tx *metadb.Tx) error { return tx.SetSessionSeen(id, v.at, v.from) })
	}
	for id, at := range u.logins {
		writes = append(writes, func(tx *metadb.Tx) error { return tx.SetLastLogin(id, at) })
	}
	for name, n := range u.failed {
		writes = append(writes, func(tx *metadb.Tx) error {
			for range min(n, 100) {
				if _, err := tx.AddLoginFailure(name, s.throttle.Forget); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for part := range slices.Chunk(writes, flushRows) {
		err := s.o.Store.Update(ctx, func(tx *metadb.Tx) error {
			for _, write := range part {
				if err := write(tx); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("auth: %w", err)
		}
	}
	for name := range u.failed {
		s.throttle.written(name)
	}
	if recheck {
		for id := range u.accounts {
			if err := s.recheck(ctx, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// trim removes what ended long ago.
func (s *Service) trim(ctx context.Context) error {
	now := s.o.Now()
	_, err := s.endSessions(ctx, metadb.SessionFilter{Expires: now})
	if err == nil {
		_, err = s.endSessions(ctx, metadb.SessionFilter{Seen: now.Add(-s.o.SessionIdle)})
	}
	if err != nil {
		return err
	}
	for _, part := range []func(*metadb.Tx) (int, error){
		func(tx *metadb.Tx) (int, error) { return tx.TrimAccessTokens(now.Add(-keepEnded), flushRows) },
		func(tx *metadb.Tx) (int, error) { return tx.TrimRobotSecrets(now.Add(-keepEnded), flushRows) },
		func(tx *metadb.Tx) (int, error) { return tx.TrimLoginFailures(now.Add(-s.throttle.Forget), flushRows) },
	} {
		for {
			n := 0
			err := s.o.Store.Update(ctx, func(tx *metadb.Tx) (err error) {
				n, err = part(tx)
				return err
			})
			if err != nil || n < flushRows {
				if err != nil {
					return err
				}
				break
			}
		}
	}
	if err := s.endAbsent(ctx); err != nil {
		return err
	}
	return s.trimKeys(ctx)
}
