// Package oci is a room of a fixture.
package oci

import (
	x0 "example.com/house/fault"
	x2 "example.com/house/image/remote" // want "point down"
	x1 "example.com/house/oci/ref"      // want "one storey"
)
