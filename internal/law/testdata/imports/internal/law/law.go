// Package law is a room of a fixture.
package law
