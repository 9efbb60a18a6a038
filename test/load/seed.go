package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// seeder brings many tags or repositories into a store of a kind that would need many minutes to take them over its API. The
// process may run: both layouts are read from disk for each request.
type seeder func(s *server, sd seeding) error

// seeding is what is to be there.
type seeding struct {
	repo     string  // repository that gets tags; it holds manifest already
	manifest content // what each tag points to
	tags     []string
	repos    []string // repositories that only have to exist
}

// seedDistribution writes distribution's own layout: a link file for each tag, two folders for each repository.
func seedDistribution(s *server, sd seeding) error {
	root := filepath.Join(storeDir(s.launch), "docker", "registry", "v2", "repositories")
	for _, tag := range sd.tags {
		dir := filepath.Join(root, sd.repo, "_manifests", "tags", tag, "current")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("seed tags: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, "link"), []byte(sd.manifest.digest), 0o644); err != nil {
			return fmt.Errorf("seed tags: %w", err)
		}
	}
	for _, repo := range sd.repos {
		err := errors.Join(os.MkdirAll(filepath.Join(root, repo, "_manifests"), 0o755), os.MkdirAll(filepath.Join(root, repo, "_layers"), 0o755))
		if err != nil {
			return fmt.Errorf("seed repositories: %w", err)
		}
	}
	return nil
}

// seedBareSync writes tag files as the handler would, without its syncs.
func seedBareSync(s *server, sd seeding) error {
	dir := filepath.Join(s.launch.dir, "tags", strings.ReplaceAll(sd.repo, "/", "%"))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("seed tags: %w", err)
	}
	for _, tag := range sd.tags {
		if err := os.WriteFile(filepath.Join(dir, tag), sd.manifest.data, 0o644); err != nil {
			return fmt.Errorf("seed tags: %w", err)
		}
	}
	return nil
}
