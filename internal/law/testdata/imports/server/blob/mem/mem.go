// Package mem is a room of a fixture.
package mem

import (
	x0 "example.com/house/server/blob"
)
