package gc

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// budget bounds how many blobs a second are deleted. nil is without a bound.
type budget struct {
	rate   int
	steady func() time.Duration // see Options.Steady

	mu   sync.Mutex
	free time.Duration // when what was taken so far is paid for
}

func newBudget(rate int, steady func() time.Duration) *budget {
	if rate <= 0 {
		return nil
	}
	return &budget{rate: rate, steady: steady}
}

// take waits until up to n deletions may follow, and says how many: what is not used is given back.
func (b *budget) take(ctx context.Context, n int) (int, error) {
	if b == nil {
		return n, ctx.Err()
	}
	n = min(n, max(1, b.rate/4)) // a quarter of a second's worth
	b.mu.Lock()
	now := b.steady()
	b.free = max(b.free, now)
	wait := b.free - now
	b.free += b.cost(n)
	b.mu.Unlock()
	if wait <= 0 {
		return n, ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return n, nil
	case <-ctx.Done():
		b.giveBack(n)
		return 0, ctx.Err()
	}
}

func (b *budget) giveBack(n int) {
	if b == nil || n <= 0 {
		return
	}
	b.mu.Lock()
	b.free -= b.cost(n)
	b.mu.Unlock()
}

func (b *budget) cost(n int) time.Duration {
	return time.Duration(float64(n) / float64(b.rate) * float64(time.Second))
}

// Window is a time of day, local time. The zero Window is any time.
type Window struct{ from, to time.Duration }

// ParseWindow reads "02:00-05:00", also over midnight; "" is any time.
func ParseWindow(text string) (Window, error) {
	if text == "" {
		return Window{}, nil
	}
	a, b, ok := strings.Cut(text, "-")
	from, err1 := time.Parse("15:04", strings.TrimSpace(a))
	to, err2 := time.Parse("15:04", strings.TrimSpace(b))
	if !ok || err1 != nil || err2 != nil || from.Equal(to) {
		return Window{}, fmt.Errorf("%q is not a time of day such as 02:00-05:00", text)
	}
	clock := func(t time.Time) time.Duration {
		return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
	}
	return Window{clock(from), clock(to)}, nil
}

// Has reports whether the time lies in the window.
func (w Window) Has(t time.Time) bool {
	if w.from == w.to {
		return true
	}
	at := time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute + time.Duration(t.Second())*time.Second
	if w.from < w.to {
		return at >= w.from && at < w.to
	}
	return at >= w.from || at < w.to
}
