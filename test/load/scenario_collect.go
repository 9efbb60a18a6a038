package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/berth-registry/berth/internal/testkit/machine"
)

const (
	repoCollect  = "load/collect"
	collectLayer = 40 << 10 // more than what berthd keeps in its database: a file for everybody
)

// collectStage has each target collect what was pushed and deleted, as its manual says for a registry that is stopped: that
// is the only way that distribution has, and berthd can do it, too.
func collectStage() stage {
	return stage{name: "collection", solo: true, prepare: prepareNothing,
		start: func(ctx context.Context, b *bench, t *target, _ *backends) (*server, error) {
			// A deletion is final, as it is for the others, and nothing is collected before the clock runs.
			return startServerWith(ctx, t, b.disk.dir, false, []string{"BERTH_TRASH_HOLD=0", "BERTH_GC_INTERVAL=24h", "BERTH_JOURNAL=false"})
		},
		scenarios: []scenario{{name: "gc-offline", unit: "blobs/s", fits: has(canCollect), run: runCollect,
			about: fmt.Sprintf("collection of images (manifest, config, 3 layers of %d KiB) that were pushed and deleted, the registry stopped, %d blobs", collectLayer>>10, 5*fullSize().collect)}}}
}

// runCollect pushes and deletes images, stops the registry and times its command. That the files are gone is part of it.
func runCollect(ctx context.Context, b *bench, s *server, round int) (phase, error) {
	seed := pushSeed("gc-offline", round)
	digests := make([]string, b.size.collect)
	err := each(ctx, s, 8, b.size.collect, func(c *client, n int) error {
		img := newImageOf(seed+uint64(n), collectLayer)
		digests[n] = img.manifest.digest
		return c.pushImage(repoCollect, fmt.Sprintf("t%d", n), img)
	})
	if err != nil {
		return phase{}, fmt.Errorf("push: %w", err)
	}
	err = each(ctx, s, 8, b.size.collect, func(c *client, n int) error {
		a, err := c.call("DELETE", manifestPath(repoCollect, digests[n]), nil)
		if err == nil && a.status != 202 {
			err = fmt.Errorf("DELETE of a manifest: status %d: %.300s", a.status, a.body)
		}
		return err
	})
	if err != nil {
		return phase{}, err
	}
	before, err := contentFiles(s)
	if err != nil {
		return phase{}, err
	}
	if err := s.proc.stop(); err != nil {
		return phase{}, err
	}
	p, err := timeCollect(ctx, b, s)
	if err := errors.Join(err, s.start(ctx)); err != nil {
		return p, err
	}
	after, err := contentFiles(s)
	if err == nil && (after > 0 || before < 3*b.size.collect) {
		err = fmt.Errorf("%d files of content were there and %d are left: nothing was measured", before, after)
	}
	return p, err
}

// timeCollect runs the command; each image has five blobs.
func timeCollect(ctx context.Context, b *bench, s *server) (phase, error) {
	_, env, err := s.command(s.launch)
	if err != nil {
		return phase{}, err
	}
	config := filepath.Join(s.launch.dir, "config.yml")
	args := []string{"garbage-collect", "--delete-untagged", config}
	if s.name == "berthd" {
		args = []string{"garbage-collect", "--quiet", config}
		if err := os.WriteFile(config, []byte("storage: {filesystem: {}}\n"), 0o600); err != nil {
			return phase{}, err
		}
	}
	cmd := exec.CommandContext(ctx, s.launch.binary, args...)
	cmd.Env, cmd.Dir = append(append(machine.CleanEnv(), env...), s.launch.env...), s.launch.dir
	began := time.Now()
	out, err := cmd.CombinedOutput()
	p := phase{Ops: int64(5 * b.size.collect), Wall: time.Since(began)}
	if err != nil {
		return p, fmt.Errorf("%s: %w: %.500s", args[0], err, out)
	}
	p.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	p.Value = float64(p.Ops) / p.Wall.Seconds()
	return p, nil
}

// contentFiles counts the files that hold content: berthd's below blobs, distribution's data.
func contentFiles(s *server) (n int, err error) {
	root, name := filepath.Join(storeDir(s.launch), "docker", "registry", "v2", "blobs"), "data"
	if s.name == "berthd" {
		root, name = filepath.Join(s.launch.dir, "data", "blobs"), ""
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && (name == "" || d.Name() == name) {
			n++
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return n, err
}
