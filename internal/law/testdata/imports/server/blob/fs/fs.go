// Package fs is a room of a fixture.
package fs

import (
	x4 "example.com/house/internal/durable"
	x0 "example.com/house/server/blob"
	x1 "example.com/house/server/blob/blobtest" // want "suite is for tests"
	x3 "example.com/house/server/blob/fs/part"
	x2 "example.com/house/server/blob/mem" // want "drivers are chosen"
	x5 "example.com/house/server/metadb"   // want "one storey"
)
