package interop_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo terminal with a program in it: docker login and podman login ask for a password only there,
// and berthd prints its first-run block only to a person.
type terminal struct {
	cmd    *exec.Cmd
	master *os.File
	exited chan struct{}
	err    error

	mu   sync.Mutex
	seen strings.Builder
}

// openTerminal starts the command in a terminal of 200 columns, and kills it at the end of the test if it still runs.
func openTerminal(t testing.TB, cmd *exec.Cmd) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: 200}); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	term := &terminal{cmd: cmd, master: master, exited: make(chan struct{})}
	var read sync.WaitGroup
	read.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			term.mu.Lock()
			term.seen.Write(buf[:n])
			term.mu.Unlock()
			if err != nil { // EIO: the last program in the terminal has ended
				return
			}
		}
	})
	go func() {
		term.err = cmd.Wait()
		read.Wait()
		close(term.exited)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-term.exited
		master.Close()
	})
	return term
}

// text is what stands on the terminal so far, with Unix line ends.
func (term *terminal) text() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return strings.ReplaceAll(term.seen.String(), "\r\n", "\n")
}

// await returns when one of the words stands on the terminal, or the program has ended.
func (term *terminal) await(t testing.TB, within time.Duration, words ...string) {
	t.Helper()
	for deadline := time.Now().Add(within); ; time.Sleep(10 * time.Millisecond) {
		text := term.text()
		for _, word := range words {
			if strings.Contains(text, word) {
				return
			}
		}
		select {
		case <-term.exited:
			return
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("none of %q within %s:\n%s", words, within, text)
		}
	}
}

// send types text.
func (term *terminal) send(t testing.TB, text string) {
	t.Helper()
	if _, err := term.master.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// wait waits for the end of the program and returns its exit code.
func (term *terminal) wait(t testing.TB, within time.Duration) int {
	t.Helper()
	select {
	case <-term.exited:
	case <-time.After(within):
		t.Fatalf("still running after %s:\n%s", within, term.text())
	}
	return term.cmd.ProcessState.ExitCode()
}
