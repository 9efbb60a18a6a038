package gc

import (
	"sync"
	"time"
)

// clock is the time by which leases are judged. When the computer's clock is set forward, promises that were made just
// before would be over at once: so, for a grace, a step forward counts only as fast as time really passes. A machine that
// was suspended looks the same and is treated the same.
type clock struct {
	now    func() time.Time
	steady func() time.Duration // nil: believe now
	grace  time.Duration

	mu    sync.Mutex
	begun bool
	wall  time.Time
	real  time.Duration
	ahead time.Duration // what does not count yet
	until time.Duration // by steady
}

// step is a difference that no correction of a clock makes in one interval.
const step = 30 * time.Second

// time is never later than now. stepped says by how much the clock was set forward since the last call.
func (c *clock) time() (t time.Time, stepped time.Duration) {
	now := c.now()
	if c.steady == nil {
		return now, 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now = c.now().Round(0) // without the monotonic part, which would hide the step
	real := c.steady()
	if c.begun {
		drift := now.Sub(c.wall) - (real - c.real)
		if drift > step {
			if real >= c.until {
				c.ahead = 0
			}
			c.ahead += drift
			c.until = real + c.grace
			stepped = drift
		} else if drift < -step {
			c.ahead = max(0, c.ahead+drift)
		}
	}
	c.begun, c.wall, c.real = true, now, real
	if real >= c.until {
		c.ahead = 0
	}
	return now.Add(-c.ahead), stepped
}
