package blob

import "context"

// Space is how much a store has room for, in bytes.
type Space struct {
	Total   int64
	Free    int64
	Reserve int64 // what new content leaves free, for what else is on the disk
}

// Spacer is an optional power of a Store that has an end: metrics and warnings ask it. It answers within a second.
type Spacer interface {
	Space(ctx context.Context) (Space, error)
}
