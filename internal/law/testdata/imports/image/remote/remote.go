// Package remote is a room of a fixture.
package remote

import (
	x1 "example.com/house/image/layout"
	x0 "example.com/house/oci"
	x2 "example.com/house/server/identity" // want "point down"
)
