// Package blob is a room of a fixture.
package blob

import (
	x0 "example.com/house/oci"
	x1 "example.com/house/server/blob/fs" // want "drivers are chosen"
)
