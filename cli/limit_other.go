//go:build !unix

package cli

// survive has nothing to do where there is no limit on the size of a file.
func survive() {}
