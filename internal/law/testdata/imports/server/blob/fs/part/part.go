// Package part is a room of a fixture.
package part

import (
	x0 "example.com/house/server/blob"
)
