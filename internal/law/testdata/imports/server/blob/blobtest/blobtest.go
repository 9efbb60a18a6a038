// Package blobtest is a room of a fixture.
package blobtest

import (
	x2 "example.com/house/internal/testkit"
	x0 "example.com/house/server/blob"
	x1 "testing"
)
