package law_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-registry/berth/internal/law"
)

func load(t *testing.T, root string) *law.Tree {
	t.Helper()
	tree, err := law.Load(root)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestHouse(t *testing.T) {
	tree := load(t, "../..")
	if len(tree.Packages) < 20 {
		t.Fatalf("only %d packages were found; is the root wrong?", len(tree.Packages))
	}
	for _, f := range law.Check(tree) {
		t.Error(f)
	}
}

// TestLinkedModules holds what berthd links to the list in testdata/berthd.modules. A line more is a decision: say in
// the commit why the server needs it. A line that is not linked any more goes away.
func TestLinkedModules(t *testing.T) {
	tree := load(t, "../..") // also tells go test which files the result depends on
	got, err := law.Linked(t.Context(), tree, "cmd/berthd")
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile(filepath.Join("testdata", "berthd.modules"))
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Fields(string(list))
	for _, m := range got {
		if !slices.Contains(want, m) {
			t.Errorf("berthd links module %s, which is not in testdata/berthd.modules", m)
		}
	}
	for _, m := range want {
		if !slices.Contains(got, m) {
			t.Errorf("module %s of testdata/berthd.modules is not linked any more", m)
		}
	}
}
