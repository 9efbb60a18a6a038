// Package machine is what benchmarks (test/load) need of the machine that they run on: a disk with room, and an environment
// that does not configure the servers behind their back.
package machine

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

const (
	gib        = 1 << 30
	tmpfsMagic = 0x01021994
)

// CleanEnv is the environment without what would change how a registry behaves: a stray BERTH_ variable ends berthd at its start.
func CleanEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		if strings.HasPrefix(kv, "REGISTRY_") || strings.HasPrefix(kv, "BERTH_") || strings.HasPrefix(kv, "OTEL_") {
			continue
		}
		env = append(env, kv)
	}
	return env
}

// Disk refuses a folder for a run that writes up to most bytes when less than least are free, and on tmpfs, where a sync costs
// nothing and every durable figure would be a fiction. free is how much there is.
func Disk(dir string, least, most int64) (free uint64, err error) {
	memory, err := InMemory(dir)
	if err != nil {
		return 0, err
	}
	if memory {
		return 0, fmt.Errorf("%s is tmpfs, where a sync costs nothing: name a folder on a disk with -dir", dir)
	}
	if free, err = FreeSpace(dir); err == nil && free < uint64(least) {
		return 0, fmt.Errorf("%s has %.1f GB free, want at least %.1f GB (the run uses up to %.1f GB): name another disk with -dir",
			dir, float64(free)/gib, float64(least)/gib, float64(most)/gib)
	}
	return free, err
}

// InMemory reports whether dir is on tmpfs.
func InMemory(dir string) (bool, error) {
	st, err := statfs(dir)
	return st.Type == tmpfsMagic, err
}

// FreeSpace is the number of bytes that dir's file system has free.
func FreeSpace(dir string) (uint64, error) {
	st, err := statfs(dir)
	return st.Bavail * uint64(st.Bsize), err
}

func statfs(dir string) (st syscall.Statfs_t, err error) {
	if err := syscall.Statfs(dir, &st); err != nil {
		return st, fmt.Errorf("ask for free space of %s: %w", dir, err)
	}
	return st, nil
}
