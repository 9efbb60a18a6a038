//go:build !unix

package durable

// Lock always succeeds: this system's locks are of another kind.
func (f *File) Lock(bool) (bool, error) { return true, nil }
