package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// keep runs a shell script whose standard input ends when this process ends, however it ends: the kernel closes the
// pipe. A script that says "read _" therefore cleans up after a test binary that had no chance to do it itself
// (a process gets no hook for its end without a TestMain in every package that uses this one).
//
// The script gets a process group of its own, so that a Ctrl-C meant for go test does not end it before its work.
// Its output goes to log, or nowhere when log is nil; never to our standard output, which go test waits for.
// release ends the script's input early.
func keep(cred *syscall.Credential, log *os.File, script string, args ...string) (release func(), err error) {
	// Bare descriptors, because an *os.File nobody holds is closed by the garbage collector.
	var pipe [2]int
	syscall.ForkLock.RLock()
	err = syscall.Pipe(pipe[:])
	if err == nil {
		syscall.CloseOnExec(pipe[0])
		syscall.CloseOnExec(pipe[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, fmt.Errorf("testkit: pipe to the keeper: %w", err)
	}
	r := os.NewFile(uintptr(pipe[0]), "keeper")
	defer r.Close()

	cmd := exec.Command("/bin/sh", append([]string{"-c", script, "keeper"}, args...)...)
	cmd.Dir = "/"
	cmd.Stdin = r
	if log != nil {
		cmd.Stdout, cmd.Stderr = log, log
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: cred}
	if err := cmd.Start(); err != nil {
		syscall.Close(pipe[1])
		return nil, fmt.Errorf("testkit: start the keeper: %w", err)
	}
	return func() {
		syscall.Close(pipe[1])
		_ = cmd.Wait() // the script's exit code is that of a clean-up: nothing to act on
	}, nil
}
