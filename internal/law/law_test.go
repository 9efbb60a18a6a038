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

// TestLinkedModules holds what each program links to its list in testdata. A line more is a decision: say in the commit
// why the program needs it. A line that is not linked any more goes away. What only the tool needs, such as builders and
// storage drivers, is so kept out of the server.
func TestLinkedModules(t *testing.T) {
	tree := load(t, "../..") // also tells go test which files the result depends on
	for _, program := range []string{"berthd", "berth"} {
		t.Run(program, func(t *testing.T) { linked(t, tree, program) })
	}
}

func linked(t *testing.T, tree *law.Tree, program string) {
	got, err := law.Linked(t.Context(), tree, "cmd/"+program)
	if err != nil {
		t.Fatal(err)
	}
	file := program + ".modules"
	list, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Fields(string(list))
	for _, m := range got {
		if !slices.Contains(want, m) {
			t.Errorf("%s links module %s, which is not in testdata/%s", program, m, file)
		}
	}
	for _, m := range want {
		if !slices.Contains(got, m) {
			t.Errorf("module %s of testdata/%s is not linked any more", m, file)
		}
	}
}
