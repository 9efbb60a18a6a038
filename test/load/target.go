package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// ability is what a target can be asked to do. A scenario names those it needs.
type ability uint16

const (
	canPull      ability = 1 << iota // manifests and blobs
	canPush                          // uploads, durable or not
	canFile                          // serve one large file, put there by us
	canMount                         // mount between repositories
	canTags                          // tags/list of a repository with many tags
	canManyTags                      // 100k tags can be brought into it within time and disk
	canCatalog                       // _catalog of many repositories
	canReferrers                     // referrers API
	canRestart                       // its start-up is of interest
	canRows                          // its rows can be written directly
	canObjects                       // keeps content in a bucket, or is the S3 server
	canReplicas                      // runs on PostgreSQL, and several beside each other
	canCollect                       // has a command that collects garbage while it is stopped
)

// launch is what a kind needs to start a process.
type launch struct {
	binary string
	dir    string // the process's own folder, empty at the first start
	addr   string // 127.0.0.1:port
	debug  string // another address, for profiles
	cert   string // empty: plain HTTP
	key    string
	env    []string // further settings
}

// kind is a sort of target: how it is found, what it can and how it starts.
type kind struct {
	name  string
	can   ability
	ready string // path that answers 200 when it serves
	find  func(ctx context.Context, cache, work string, progress io.Writer) (string, error)
	// command writes the configuration into l.dir and says what to run.
	command func(l launch) (argv, env []string, err error)
	seed    seeder // writes many tags and repositories into a fresh store; nil: through the API
}

// target is a kind with its binary.
type target struct {
	kind
	binary string
}

func kinds() []kind {
	all := canPull | canPush | canMount | canTags | canManyTags | canCatalog | canReferrers | canRestart | canRows | canObjects | canReplicas | canCollect
	return []kind{
		{name: "berthd", can: all, ready: "/readyz", find: findBerthd, command: commandBerthd},
		{name: "bare", can: canPull | canFile | canTags | canManyTags | canCatalog | canReferrers, ready: "/ready", find: findSelf, command: commandSelf("bare")},
		{name: "bare+sync", can: canPush | canMount | canManyTags, ready: "/v2/", find: findSelf, command: commandSelf("sync"), seed: seedBareSync},
		{name: "raw", can: canObjects, find: findSelf},
		{name: "nginx", can: canFile, ready: "/ready", find: findInPath("nginx", "/usr/sbin/nginx"), command: commandNginx},
		{name: "dist3", can: canPull | canPush | canMount | canTags | canCatalog | canRestart | canCollect, ready: "/v2/", find: findDist3, command: commandDistribution, seed: seedDistribution},
		{name: "reg2", can: canPull | canPush | canMount | canTags | canCatalog | canRestart, ready: "/v2/", find: findInPath("docker-registry"), command: commandDistribution, seed: seedDistribution},
		{name: "zot", can: canPull | canPush | canMount | canRestart, ready: "/v2/", find: findInPath("zot"), command: commandZot},
		{name: "olareg", can: canPull | canPush | canMount | canRestart, ready: "/v2/", find: findInPath("olareg"), command: commandOlareg},
	}
}

func targetNames() []string {
	var names []string
	for _, k := range kinds() {
		names = append(names, k.name)
	}
	return names
}

// findTargets resolves the binaries. A target that was asked for by name must be there; the others are left out with a line.
func findTargets(ctx context.Context, o options, cache, work string, progress io.Writer) ([]*target, error) {
	for _, name := range o.targets {
		if !slices.Contains(targetNames(), name) {
			return nil, fmt.Errorf("target %q is unknown, want some of %s", name, strings.Join(targetNames(), ","))
		}
	}
	var found []*target
	for _, k := range kinds() {
		asked := slices.Contains(o.targets, k.name)
		if len(o.targets) > 0 && !asked {
			continue
		}
		binary, err := o.binaries[k.name], error(nil)
		if binary == "" {
			binary, err = k.find(ctx, cache, work, progress)
		} else if binary, err = filepath.Abs(binary); err == nil {
			_, err = os.Stat(binary)
		}
		if err != nil {
			if asked || k.name == "berthd" {
				return nil, fmt.Errorf("find %s: %w", k.name, err)
			}
			fmt.Fprintf(progress, "%s is left out: %v\n", k.name, err)
			continue
		}
		found = append(found, &target{kind: k, binary: binary})
	}
	return found, nil
}

func findInPath(names ...string) func(context.Context, string, string, io.Writer) (string, error) {
	return func(context.Context, string, string, io.Writer) (string, error) {
		var err error
		for _, name := range names {
			var path string
			if path, err = exec.LookPath(name); err == nil {
				return path, nil
			}
		}
		return "", err
	}
}

func findSelf(context.Context, string, string, io.Writer) (string, error) { return os.Executable() }

// findBerthd builds the checkout's berthd into the working folder.
func findBerthd(ctx context.Context, _, work string, progress io.Writer) (string, error) {
	fmt.Fprintln(progress, "building berthd")
	path := filepath.Join(work, "berthd")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, "./cmd/berthd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build ./cmd/berthd (run from the module's root, or give -berthd): %w\n%s", err, out)
	}
	return path, nil
}

// dist3Module is pinned: `@latest` may ask for a newer Go.
const dist3Module = "github.com/distribution/distribution/v3/cmd/registry@v3.1.2"

// findDist3 installs CNCF distribution into the cache folder once (two minutes).
func findDist3(ctx context.Context, cache, _ string, progress io.Writer) (string, error) {
	bin := filepath.Join(cache, "bin")
	path := filepath.Join(bin, "registry")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	fmt.Fprintln(progress, "installing", dist3Module, "(once, about two minutes)")
	cmd := exec.CommandContext(ctx, "go", "install", dist3Module)
	cmd.Dir = os.TempDir() // outside the module: its go.mod has no say
	cmd.Env = append(os.Environ(), "GOBIN="+bin, "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go install %s: %w\n%s", dist3Module, err, out)
	}
	return path, nil
}
