// Package main is a program.
package main // want "does not begin with"
