package project_test

import (
	"path/filepath"
	"testing"

	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/project"
)

// BenchmarkVisibility is what every authorization decision passes.
func BenchmarkVisibility(b *testing.B) {
	db, err := metadb.Open(b.Context(), metadb.Options{Path: filepath.Join(b.TempDir(), "berth.db")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	s, err := project.NewDirectory(b.Context(), project.DirectoryOptions{DB: db})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		_, _, _ = s.Lookup(b.Context(), "library")
	}
}
