// Package telemetry is a room of a fixture.
package telemetry

import (
	x0 "example.com/house/server/config"
)
