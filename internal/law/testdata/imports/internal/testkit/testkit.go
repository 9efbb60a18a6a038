// Package testkit is a room of a fixture.
package testkit

import (
	x0 "example.com/house/test/load" // want "nobody"
)
