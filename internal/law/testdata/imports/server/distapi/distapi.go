// Package distapi is a room of a fixture.
package distapi

import (
	x3 "example.com/house/server" // want "point down"
	x0 "example.com/house/server/access"
	x2 "example.com/house/server/adminapi" // want "one storey"
	x4 "example.com/house/server/blob/mem" // want "drivers are chosen"
	x1 "example.com/house/server/httpd"
)
