// Package load is a room of a fixture.
package load

import (
	x1 "flag"
	x0 "net/http"
)
