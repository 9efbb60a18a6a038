//go:build unix

package cli

import (
	"os/signal"
	"syscall"
)

// survive has a write that exceeds the limit on the size of a file (ulimit -f) fail as on a full disk, in place of ending the
// process with a stack.
func survive() { signal.Ignore(syscall.SIGXFSZ) }
