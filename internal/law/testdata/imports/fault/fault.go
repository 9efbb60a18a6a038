// Package fault is a room of a fixture.
package fault
