// Package adminapi is a room of a fixture.
package adminapi
