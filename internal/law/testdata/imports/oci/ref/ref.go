// Package ref is a room of a fixture.
package ref

import (
	x1 "example.com/house/fault"
	x0 "example.com/house/oci"
)
