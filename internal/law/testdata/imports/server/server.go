// Package server is a room of a fixture.
package server

import (
	x2 "example.com/house/cli" // want "meet only"
	x1 "example.com/house/server/blob/fs"
	x0 "example.com/house/server/distapi"
)
