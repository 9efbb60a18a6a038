// Command berthd is a program of a fixture.
package main

import (
	x2 "example.com/house/cli" // want "meet only"
	x0 "example.com/house/server"
	x1 "example.com/house/server/blob/fs"
)
