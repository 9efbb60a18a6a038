// Package metadb is a room of a fixture.
package metadb

import (
	x1 "example.com/house/server/blob" // want "one storey"
	x0 "example.com/house/server/event"
)
