package testkit

import "syscall"

// childAttr ties a daemon to this process: when the test binary dies without its clean-up (a timeout, SIGKILL), the
// kernel ends the daemon too.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
