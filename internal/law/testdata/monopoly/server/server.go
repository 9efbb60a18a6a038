// Package server is a room of a fixture.
package server

import (
	x0 "net/http"
)
