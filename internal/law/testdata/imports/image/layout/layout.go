// Package layout is a room of a fixture.
package layout

import (
	x0 "testing" // want "outside of its tests"
)
