// Package cli is a room of a fixture.
package cli

import (
	x0 "example.com/house/cli/output"
	x1 "example.com/house/image/remote"
	x2 "example.com/house/server/config" // want "meet only"
)
