// Package durable is a room of a fixture.
package durable

import (
	x0 "example.com/house/fault" // want "one storey"
)
