package auth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/maypok86/otter/v2"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/berth-registry/berth/fault"
)

// Throttle says how failed logins slow down. Failures are counted per account name and address (IPv6: per /64), so
// nobody locks out an account from elsewhere. The zero value is the default.
type Throttle struct {
	// Free failures cost nothing; the next ones double a delay from First up to Most. Defaults 3, 0.25 s, 5 s.
	Free        int
	First, Most time.Duration
	// Patience is the longest that a request is made to wait; one that would wait longer is answered 429 with
	// Retry-After at once. Default 10 s.
	Patience time.Duration
	// After Hard failures only one attempt per HardDelay is heard. Defaults 20, 30 s.
	Hard      int
	HardDelay time.Duration
	// Forget is how long after the last attempt failures are forgotten. Default 15 min.
	Forget time.Duration
	// Names bounds how many names and addresses are remembered, some 200 bytes each. Default 16384.
	Names int
}

func (t Throttle) withDefaults() Throttle {
	t.Free = cmp.Or(t.Free, 3)
	t.First = cmp.Or(t.First, 250*time.Millisecond)
	t.Most = cmp.Or(t.Most, 5*time.Second)
	t.Patience = cmp.Or(t.Patience, 10*time.Second)
	t.Hard = cmp.Or(t.Hard, 20)
	t.HardDelay = cmp.Or(t.HardDelay, 30*time.Second)
	t.Forget = cmp.Or(t.Forget, 15*time.Minute)
	t.Names = cmp.Or(t.Names, 16<<10)
	return t
}

// delay is the time between the attempt with this number (from 1) and the one after it.
func (t Throttle) delay(attempt int) time.Duration {
	switch n := attempt - t.Free; {
	case attempt >= t.Hard: // also when that is less than Free
		return t.HardDelay
	case n <= 0:
		return 0
	case n > 16: // 2^16 times anything sensible is more than Most
		return t.Most
	default:
		return min(t.Most, t.First<<(n-1))
	}
}

// throttle remembers who failed. Attempts that are being checked count as failures until they are not, so guessing in
// parallel gains nothing.
type throttle struct {
	Throttle
	now     func() time.Time
	sleep   func(ctx context.Context, d time.Duration) error
	entries *otter.Cache[[sha256.Size]byte, *attempts]
	// freed is when the failures of a name were forgotten from everywhere; noted says that the database knows of some.
	freed *otter.Cache[string, time.Time]
	noted *otter.Cache[string, struct{}]
}

// attempts of one name from one address.
type attempts struct {
	mu              sync.Mutex
	failed, pending int
	next, last      time.Time // when the next attempt may start; when the last one was made
}

func newThrottle(t Throttle, now func() time.Time) (*throttle, error) {
	t = t.withDefaults()
	c, err := otter.New(&otter.Options[[sha256.Size]byte, *attempts]{MaximumSize: t.Names})
	if err != nil {
		return nil, fmt.Errorf("auth: throttle: %w", err)
	}
	freed, err := otter.New(&otter.Options[string, time.Time]{MaximumSize: t.Names})
	if err != nil {
		return nil, fmt.Errorf("auth: throttle: %w", err)
	}
	noted, err := otter.New(&otter.Options[string, struct{}]{MaximumSize: t.Names})
	if err != nil {
		return nil, fmt.Errorf("auth: throttle: %w", err)
	}
	return &throttle{Throttle: t, now: now, sleep: sleep, entries: c, freed: freed, noted: noted}, nil
}

// throttleKey is of a name as the most forgiving directory reads it: failures with Alice, ALICE and " alice" are of one account.
func throttleKey(name, addr string) [sha256.Size]byte {
	return sha256.Sum256([]byte(network(addr) + "\x00" + folded(name)))
}

// folded is a name without what directories do not look at: letter case, the width and form of letters, accents and other marks,
// spaces around it and more than one inside, and what is not seen.
func folded(name string) string {
	seen := strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Mn, unicode.Cf) || unicode.IsControl(r) && !unicode.IsSpace(r) {
			return -1
		}
		return r
	}, norm.NFKD.String(cases.Fold().String(norm.NFKC.String(name))))
	return strings.Join(strings.Fields(seen), " ")
}

// forget drops what is known of a name from wherever.
func (t *throttle) forget(name string) {
	t.freed.Set(folded(name), t.now())
	t.noted.Invalidate(name)
}

// written notes that the failures of a name are in the database; isWritten reports it.
func (t *throttle) written(name string) { t.noted.Set(name, struct{}{}) }

func (t *throttle) isWritten(name string) bool {
	_, ok := t.noted.GetIfPresent(name)
	return ok
}

// held reports whether the next attempt would wait.
func (t *throttle) held(name, addr string) bool {
	a, ok := t.entries.GetIfPresent(throttleKey(name, addr))
	if !ok {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.next.After(t.now())
}

// begin waits until this attempt may be checked, or says that it may not be. After nil the caller must end it.
func (t *throttle) begin(ctx context.Context, name, addr string) (*attempts, error) {
	key := throttleKey(name, addr)
	a, ok := t.entries.GetIfPresent(key)
	if !ok {
		a = &attempts{}
		if before, inserted := t.entries.SetIfAbsent(key, a); !inserted {
			a = before
		}
	}
	freed, _ := t.freed.GetIfPresent(folded(name))
	wait, err := t.reserve(a, freed)
	if err != nil {
		return nil, err
	}
	if wait > 0 {
		if err := t.sleep(ctx, wait); err != nil {
			a.end(outcomeUnknown)
			return nil, err
		}
	}
	return a, nil
}

// reserve takes the next free moment. Attempts made until freed do not count.
func (t *throttle) reserve(a *attempts, freed time.Time) (time.Duration, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := t.now()
	if a.pending == 0 && (now.Sub(a.last) > t.Forget || !a.last.After(freed)) {
		a.failed, a.next = 0, time.Time{}
	}
	start := now
	if a.next.After(now) {
		start = a.next
	}
	wait := start.Sub(now)
	if wait > t.Patience {
		f := fault.New(fault.RateLimited, fault.TooManyRequests,
			"too many failed logins for this user name from this address; try again in %d seconds", seconds(wait))
		f.After = seconds(wait)
		return 0, f
	}
	a.last = now
	a.pending++
	a.next = start.Add(t.delay(a.failed + a.pending))
	return wait, nil
}

type outcome uint8

const (
	outcomeUnknown outcome = iota // nothing was checked
	outcomeWrong
	outcomeRight
)

// end records how the attempt went.
func (a *attempts) end(o outcome) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pending--
	switch o {
	case outcomeUnknown:
	case outcomeWrong:
		a.failed++
	case outcomeRight:
		a.failed, a.next = 0, time.Time{}
	}
}

func seconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }

// network is what one caller can choose its address from: an IPv6 customer has a whole /64.
func network(addr string) string {
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		return addr
	}
	if ip = ip.Unmap(); ip.Is6() {
		if p, err := ip.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return ip.String()
}

// sleep waits for d or for the end of the context.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
