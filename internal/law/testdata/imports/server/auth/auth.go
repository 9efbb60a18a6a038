// Package auth is a room of a fixture.
package auth

import (
	x0 "example.com/house/server/identity"
)
