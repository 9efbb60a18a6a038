// Command berth is a program of a fixture.
package main

import (
	x0 "example.com/house/cli"
	x1 "example.com/house/server" // want "meet only"
)
