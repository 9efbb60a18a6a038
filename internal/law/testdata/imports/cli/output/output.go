// Package output is a room of a fixture.
package output
