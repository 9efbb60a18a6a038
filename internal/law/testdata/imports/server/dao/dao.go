// Package dao is a room that nobody planned.
package dao // want "no place in the house"
