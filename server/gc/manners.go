package gc

import (
	"context"
	"time"
)

// manners keep collection out of the way of those whom the registry is for. While others are at work one worker is, too, on
// smaller batches, and rests nine times as long as each of them took: what it takes of the database's writer, the disk and
// the processors is a tenth at most. While nobody is there it takes what there is.
type manners struct {
	busy   func() bool // nil: nobody is ever there
	steady func() time.Duration
	turn   chan struct{} // taken by the one who works beside others
}

const (
	politeBatch = 100
	restFactor  = 9
	longestRest = 2 * time.Second
)

func newManners(o Options) *manners {
	return &manners{busy: o.Busy, steady: pace(o), turn: make(chan struct{}, 1)}
}

// begin waits until a batch may be taken and says how large it is, at most. Call end when it is done.
func (m *manners) begin(ctx context.Context, most int) (size int, end func(), err error) {
	if m.busy == nil || !m.busy() {
		return most, func() {}, ctx.Err()
	}
	select {
	case m.turn <- struct{}{}:
	case <-ctx.Done():
		return 0, nil, ctx.Err()
	}
	began := m.steady()
	return min(most, politeBatch), func() {
		defer func() { <-m.turn }()
		rest := time.NewTimer(min(restFactor*(m.steady()-began), longestRest))
		defer rest.Stop()
		select {
		case <-rest.C:
		case <-ctx.Done():
		}
	}, nil
}
