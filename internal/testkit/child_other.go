//go:build !linux

package testkit

import "syscall"

// childAttr has nothing on this system that ends a daemon with its parent; t.Cleanup does it in every ordinary end.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// listens cannot be known on this system.
func listens(int, string) bool { return true }
