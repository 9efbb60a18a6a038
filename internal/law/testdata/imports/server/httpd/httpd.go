// Package httpd is a room of a fixture.
package httpd

import (
	x0 "example.com/house/server/telemetry"
)
