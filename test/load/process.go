package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/berth-registry/berth/internal/testkit/machine"
)

const (
	clockTicks = 100 // USER_HZ, fixed at 100 on Linux for every architecture that Go supports
	stopWait   = 20 * time.Second
)

// process is a server that this program started, with its log in a file.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	end  syscall.Signal // that asks it to end
}

// startProcess runs argv in its own process group, so that a stop reaches its children and nobody else, and so that Ctrl-C
// reaches it only through us.
func startProcess(log, dir string, env, argv []string) (*process, error) {
	return startProcessAs(nil, log, dir, env, argv)
}

// startProcessAs is startProcess as another user; nil is ourselves.
func startProcessAs(cred *syscall.Credential, log, dir string, env, argv []string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	defer out.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	cmd.Env = append(machine.CleanEnv(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: cred}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	p := &process{cmd: cmd, log: log, done: make(chan struct{}), end: syscall.SIGTERM}
	go func() { _ = cmd.Wait(); close(p.done) }()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// exited tells whether the process ended by itself.
func (p *process) exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// stop asks the process to end and waits; after 20 s it kills its group.
func (p *process) stop() error {
	if p.exited() {
		return fmt.Errorf("process %d had ended before: see %s:\n%s", p.pid(), filepath.Base(p.log), p.logTail())
	}
	_ = syscall.Kill(p.pid(), p.end)
	select {
	case <-p.done:
		return nil
	case <-time.After(stopWait):
		_ = syscall.Kill(-p.pid(), syscall.SIGKILL)
		<-p.done
		return fmt.Errorf("process %d did not end within %s of %s", p.pid(), stopWait, p.end)
	}
}

// trimLog empties the log, which the process appends to: access logs of a fast server would fill the disk budget.
func (p *process) trimLog() { _ = os.Truncate(p.log, 0) }

func (p *process) logTail() string {
	data, _ := os.ReadFile(p.log)
	if len(data) > 2000 {
		data = data[len(data)-2000:]
	}
	return string(data)
}

// usage is what a process and its children used.
type usage struct {
	cpu  time.Duration // user + system since their start
	rss  int64         // bytes now
	peak int64         // bytes at most, since resetPeak
}

// usage sums over the process and its children (nginx and PostgreSQL work in children).
func (p *process) usage() (usage, error) {
	var sum usage
	for _, pid := range withChildren(p.pid()) {
		u, err := pidUsage(pid)
		if err != nil && pid != p.pid() {
			continue // it ended meanwhile; what it used is its parent's now
		}
		if err != nil {
			return sum, err
		}
		sum.cpu += u.cpu
		sum.rss += u.rss
		sum.peak += u.peak
	}
	return sum, nil
}

// resetPeak starts the high-water mark of resident memory anew.
func (p *process) resetPeak() {
	for _, pid := range withChildren(p.pid()) {
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0o200)
	}
}

func withChildren(pid int) []int {
	pids := []int{pid}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return pids
	}
	for _, f := range strings.Fields(string(data)) {
		if child, err := strconv.Atoi(f); err == nil {
			pids = append(pids, withChildren(child)...)
		}
	}
	return pids
}

func pidUsage(pid int) (usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, fmt.Errorf("read usage: %w", err)
	}
	cpu, err := parseStatCPU(string(stat))
	if err != nil {
		return usage{}, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return usage{}, fmt.Errorf("read usage: %w", err)
	}
	return usage{cpu: cpu, rss: statusField(string(status), "VmRSS:"), peak: statusField(string(status), "VmHWM:")}, nil
}

// parseStatCPU reads fields 14 to 17 of /proc/<pid>/stat: utime and stime, and those of children that ended. The name in field 2
// may hold blanks.
func parseStatCPU(stat string) (time.Duration, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 15 {
		return 0, errors.New("read usage: /proc/<pid>/stat has an unknown form")
	}
	var ticks int64
	for _, f := range fields[11:15] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read usage: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / clockTicks, nil
}

// statusField reads a "VmRSS:   123 kB" line, in bytes.
func statusField(status, name string) int64 {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n << 10
		}
	}
	return 0
}

// machineCPU is the processor time of the whole machine that was not idle.
func machineCPU() time.Duration {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(data), "\n")
	var busy int64
	for i, f := range strings.Fields(line) {
		n, _ := strconv.ParseInt(f, 10, 64)
		if i >= 1 && i <= 8 && i != 4 && i != 5 { // neither idle nor waiting for a disk
			busy += n
		}
	}
	return time.Duration(busy) * time.Second / clockTicks
}

// ownCPU is the processor time of this program, the load generator.
func ownCPU() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
