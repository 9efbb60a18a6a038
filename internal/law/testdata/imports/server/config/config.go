// Package config is a room of a fixture.
package config

import (
	x0 "example.com/house/fault"
	x2 "example.com/house/image/remote"
	x1 "example.com/house/server/identity" // want "one storey"
)
