// Package testkit is for tests.
package testkit

var seen int

func init() { seen++ }
