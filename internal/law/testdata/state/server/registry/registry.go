// Package registry is a room of a fixture.
package registry

import (
	_ "embed"
	"errors"
	_ "image/png" // want "for its side effect"
	"sync"
	"sync/atomic"
)

var errGone = errors.New("gone")

var table = map[string]int{"a": 1}

var pool = sync.Pool{New: func() any { var mu sync.Mutex; return &mu }}

var once = sync.OnceValue(func() int { return 1 })

var _ = table

var counter int

var (
	mu    sync.Mutex       // want "holds sync.Mutex"
	hits  = atomic.Int64{} // want "holds atomic.Int64"
	queue = make(chan int) // want "holds a channel"
	state struct{ name string }
	list  []string
	grid  [2][2]int
	last  *int
)

func init() { // want "has an init function"
}

type thing struct{}

func (thing) init() {}

func f(key string) error {
	counter++                // want "variable counter is written"
	table[key] = 2           // want "variable table is written"
	delete(table, key)       // want "variable table is written"
	state.name = key         // want "variable state is written"
	list = append(list, key) // want "variable list is written"
	(grid[0])[1] += 1        // want "variable grid is written"
	p := &counter            // want "variable counter is written"
	*last = 1                // want "variable last is written"
	for counter = range 3 {  // want "variable counter is written"
	}
	_ = p
	_ = table[key] + once()
	counter := 1
	counter++
	{
		list := []string{}
		list = append(list, key)
		_ = list
	}
	return errGone
}
