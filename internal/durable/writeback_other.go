//go:build !linux

package durable

// StartWriteback does nothing where the kernel cannot be asked to begin early.
func (f *File) StartWriteback(off, n int64) {}
