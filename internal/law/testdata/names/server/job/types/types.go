// Package types has everything.
package types // want "says nothing" "says nothing"
