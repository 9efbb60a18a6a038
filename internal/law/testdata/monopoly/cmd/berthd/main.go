// Command berthd is a program of a fixture.
package main

import (
	x1 "flag"
	x2 "github.com/spf13/pflag"
	x0 "net/http"
)
