package cluster

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// chaos takes away what the cluster stands on, one thing or two at a time, and gives it back.
type chaos struct {
	f    *fleet
	rnd  *rand.Rand
	done map[string]int
}

// blow is one way to hurt.
type blow struct {
	name string
	do   func(*chaos)
}

func blows() []blow {
	return []blow{
		{"kill a replica", func(c *chaos) {
			back := c.f.kill(c.replica())
			c.pause(200, 1000)
			back()
		}},
		{"kill two replicas", func(c *chaos) {
			i := c.replica()
			first := c.f.kill(i)
			second := c.f.kill((i + 1) % replicaCount)
			c.pause(100, 600)
			first()
			second()
		}},
		{"crash PostgreSQL", func(c *chaos) {
			back := c.f.withdraw(true)
			c.pause(100, 1500)
			back()
		}},
		{"restart PostgreSQL", func(c *chaos) {
			back := c.f.withdraw(false)
			c.pause(0, 800)
			back()
		}},
		{"crash PostgreSQL and kill a replica", func(c *chaos) {
			database := c.f.withdraw(true)
			replica := c.f.kill(c.replica())
			c.pause(100, 800)
			database()
			replica()
		}},
		{"pause the S3 server", func(c *chaos) {
			back := c.f.hang()
			c.pause(500, 3000)
			back()
		}},
		{"kill the S3 server", func(c *chaos) {
			back := c.f.fell()
			c.pause(100, 1500)
			back()
		}},
		{"pause the S3 server and kill a replica", func(c *chaos) {
			bucket := c.f.hang()
			c.pause(300, 1000)
			replica := c.f.kill(c.replica())
			bucket()
			c.pause(0, 300)
			replica()
		}},
	}
}

// replica is a victim: half of the time the one that delivers notifications.
func (c *chaos) replica() int {
	if port := c.f.sink.from(); port != "" && c.rnd.IntN(2) == 0 {
		for i, d := range c.f.replicas {
			if strings.HasSuffix(d.Addr, ":"+port) {
				return i
			}
		}
	}
	return c.rnd.IntN(replicaCount)
}

// pause waits some milliseconds.
func (c *chaos) pause(least, most int) {
	time.Sleep(time.Duration(least+c.rnd.IntN(most-least)) * time.Millisecond)
}

// run deals all blows, in an order that changes, again and again. Between them clients get a moment.
func (c *chaos) run(length time.Duration) {
	c.done = map[string]int{}
	all := blows()
	for began := time.Now(); time.Since(began) < length; {
		c.rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, b := range all {
			c.pause(700, 1500)
			if time.Since(began) > length {
				return
			}
			b.do(c)
			c.done[b.name]++
		}
	}
}

// prove fails when too little happened to show anything.
func (c *chaos) prove(seconds int) {
	j := c.f.judge
	if least := int64(10 * seconds); j.acks.Load() < least {
		c.f.t.Errorf("only %d writes were acknowledged in %d s: nothing was tested", j.acks.Load(), seconds)
	}
	if seconds < 30 {
		return
	}
	for _, b := range blows() {
		if c.done[b.name] == 0 {
			c.f.t.Errorf("in %d s there was no time to %s", seconds, b.name)
		}
	}
	if j.busy.Load() == 0 || j.killed.Load() == 0 {
		c.f.t.Errorf("%s: the faults met no request", j)
	}
}

func (c *chaos) String() string {
	var all []string
	for _, b := range blows() {
		all = append(all, fmt.Sprintf("%s ×%d", b.name, c.done[b.name]))
	}
	return strings.Join(all, ", ")
}
