// Package identity is a room of a fixture.
package identity

import (
	x0 "example.com/house/server/event" // want "point down"
)
