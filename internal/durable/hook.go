package durable

import "fmt"

// Op names an operation for a Hook.
type Op string

// The operations that a Hook sees.
const (
	OpOpen     Op = "open"
	OpWrite    Op = "write"
	OpTruncate Op = "truncate"
	OpSync     Op = "sync"
	OpSyncDir  Op = "syncdir"
	OpRename   Op = "rename"
	OpRemove   Op = "remove"
	OpMkdir    Op = "mkdir"
)

// Hook is called before each operation that changes or syncs something; names are relative to the directory that was
// opened first, and to is set for a rename. When it returns an error, the operation fails with it and is not done.
// Tests record orders and inject failures with it; a nil Hook costs nothing.
type Hook func(op Op, name, to string) error

func (h Hook) call(op Op, name, to string) error {
	if h == nil {
		return nil
	}
	if err := h(op, name, to); err != nil {
		return fmt.Errorf("durable: %s %s: %w", op, name, err)
	}
	return nil
}
