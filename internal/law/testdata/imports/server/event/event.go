// Package event is a room of a fixture.
package event

import (
	x0 "example.com/house/server/identity"
	x1 "example.com/house/server/metadb" // want "one storey"
)
