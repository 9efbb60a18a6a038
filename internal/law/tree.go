package law

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// Tree is the parsed sources of a module.
type Tree struct {
	Module   string
	Packages []*Package // by path, in the order of the walk

	root string
	fset *token.FileSet
}

// Package is the Go files of one folder, with those of its external tests.
type Package struct {
	Path  string // relative to the module with slashes, "." for its root
	Files []*File
}

// File is one source file.
type File struct {
	*ast.File
	Name string // base name
}

// Test reports whether the file is compiled for tests only.
func (f *File) Test() bool { return strings.HasSuffix(f.Name, "_test.go") }

// Load parses every Go file of the module at root, except below testdata, hidden folders and nested modules. It reads
// the files itself, and go.mod and go.sum too, so that go test knows what a remembered result depends on.
func Load(root string) (*Tree, error) {
	t := &Tree{root: root, fset: token.NewFileSet()}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return nil, fmt.Errorf("law: %w", err)
	}
	for line := range strings.Lines(string(mod)) {
		if m, ok := strings.CutPrefix(strings.TrimSpace(line), "module "); ok {
			t.Module = m
		}
	}
	if t.Module == "" {
		return nil, errors.New("law: go.mod names no module")
	}
	if _, err := os.ReadFile(filepath.Join(root, "go.sum")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("law: %w", err)
	}
	return t, filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // somebody else's temporary file, gone meanwhile
			return nil
		case err != nil:
			return fmt.Errorf("law: %w", err)
		case !d.IsDir():
			return nil
		case p != root && t.foreign(p, d.Name()):
			return fs.SkipDir
		}
		return t.folder(p)
	})
}

// foreign reports whether a folder is none of the module's source folders.
func (t *Tree) foreign(p, name string) bool {
	if name == "testdata" || name == "node_modules" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
		return true
	}
	_, err := os.Stat(filepath.Join(p, "go.mod"))
	return err == nil
}

func (t *Tree) folder(dir string) error {
	rel, err := filepath.Rel(t.root, dir)
	if err != nil {
		return fmt.Errorf("law: %w", err)
	}
	pkg := &Package{Path: filepath.ToSlash(rel)}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("law: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() || !strings.HasSuffix(e.Name(), ".go") {
			continue
		}
		src, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("law: %w", err)
		}
		f, err := parser.ParseFile(t.fset, path.Join(pkg.Path, e.Name()), src, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return fmt.Errorf("law: %w", err)
		}
		pkg.Files = append(pkg.Files, &File{File: f, Name: e.Name()})
	}
	if len(pkg.Files) > 0 {
		t.Packages = append(t.Packages, pkg)
	}
	return nil
}

func (t *Tree) position(p token.Pos) token.Position { return t.fset.Position(p) }

// within gives the path of an import relative to the module, or false for one of another module.
func (t *Tree) within(spec *ast.ImportSpec) (string, bool) {
	p := importPath(spec)
	if p == t.Module {
		return ".", true
	}
	return strings.CutPrefix(p, t.Module+"/")
}

func importPath(spec *ast.ImportSpec) string {
	p, _ := strconv.Unquote(spec.Path.Value) // the parser accepted it
	return p
}

// under reports whether a path is one of the folders or below it.
func under(p string, folders ...string) bool {
	for _, f := range folders {
		if p == f || strings.HasPrefix(p, f+"/") {
			return true
		}
	}
	return false
}
