// Package util has everything.
package util // want "says nothing" "says nothing"
