// Package helpers has everything.
package helpers // want "says nothing"
