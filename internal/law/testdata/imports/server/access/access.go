// Package access is a room of a fixture.
package access

import (
	x3 "example.com/house/internal/testkit" // want "is for tests"
	x1 "example.com/house/server/auth"      // want "neighbours"
	x2 "example.com/house/server/distapi"   // want "point down"
	x0 "example.com/house/server/metadb"
)
