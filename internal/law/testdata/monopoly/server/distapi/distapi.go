// Package distapi is a room of a fixture.
package distapi

import (
	x0 "net/http"
)
