// Package load is a room of a fixture.
package load

import (
	x1 "example.com/house/internal/testkit"
	x0 "example.com/house/oci"
	x2 "example.com/house/server/config" // want "from outside"
)
