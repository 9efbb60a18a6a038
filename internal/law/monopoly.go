package law

import (
	"go/ast"
	"slices"
	"strings"
)

// monopoly is something that only some folders may import.
type monopoly struct {
	name    string
	imports []string // import paths; each covers what is below it
	folders []string
	inTests bool // the rule holds for test files, too
}

func monopolies() []monopoly {
	return []monopoly{
		{
			name: "sql",
			imports: []string{"database/sql", "modernc.org/sqlite", "github.com/jackc/pgx", "github.com/jackc/pgx/v5",
				"github.com/pressly/goose", "github.com/pressly/goose/v3"},
			folders: []string{"server/metadb", "internal/testkit", "test/load"},
			inTests: true,
		},
		{
			// A room that calls out (image/remote, server/webhook) gets its line here when it comes.
			name:    "http",
			imports: []string{"net/http"},
			folders: []string{"server/httpd", "server/blob/s3", "server/webhook", "server/auth/issuer", "server/auth/oidc", "server/distapi", "server/adminapi", "server/harborapi", "server/console",
				"image/remote", "cli", "cmd", "internal/testkit", "test"},
		},
		{
			name:    "flags",
			imports: []string{"flag", "github.com/spf13"},
			folders: []string{"cli", "cmd", "test"},
		},
	}
}

// process are the functions that read or end the process as a whole.
func process() map[string][]string {
	return map[string][]string{
		"os":      {"Getenv", "LookupEnv", "Environ", "ExpandEnv", "Setenv", "Exit", "Args"},
		"log":     {"Fatal", "Fatalf", "Fatalln"},
		"syscall": {"Getenv", "Setenv", "Exit"},
	}
}

// checkMonopolies holds what belongs to one room: SQL to metadb, HTTP to the faces and httpd, flags, environment and exit
// codes to the programs, and time to the clock that a room is given.
func checkMonopolies(p *Package, report reporter) {
	for _, f := range p.Files {
		for _, spec := range f.Imports {
			for _, m := range monopolies() {
				if f.Test() && !m.inTests || !under(importPath(spec), m.imports...) || under(p.Path, m.folders...) {
					continue
				}
				// The assembly mounts handlers; it is one file's worth of http.Handler.
				if m.name == "http" && p.Path == "server" {
					continue
				}
				report(spec.Pos(), m.name, "package %s imports %s, which is the monopoly of %s", p.Path, importPath(spec), strings.Join(m.folders, ", "))
			}
		}
		if f.Test() || under(p.Path, "cli", "cmd", "internal/testkit", "test") {
			continue
		}
		names := imported(f)
		ast.Inspect(f.File, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && slices.Contains(process()[names[x.Name]], sel.Sel.Name) {
				report(sel.Pos(), "process", "%s.%s belongs to the programs; take what is needed as an option", names[x.Name], sel.Sel.Name)
			}
			return true
		})
		checkClock(p, f, names, report)
	}
}

// checkClock wants the time of the daemon to come from a field, so that tests can move it. A room may name time.Now as the
// default of that field; it may not call it.
func checkClock(p *Package, f *File, names map[string]string, report reporter) {
	if part := locate(p.Path).part; !under(p.Path, "server") || part == suite {
		return
	}
	ast.Inspect(f.File, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && names[x.Name] == "time" && slices.Contains([]string{"Now", "Since", "Until"}, sel.Sel.Name) {
			report(sel.Pos(), "clock", "time.%s is called; take the time from the room's clock", sel.Sel.Name)
		}
		return true
	})
}

// imported maps the names that a file gives to packages to their import paths. A local variable of that name would hide
// it; no room writes so.
func imported(f *File) map[string]string {
	names := map[string]string{}
	for _, spec := range f.Imports {
		p := importPath(spec)
		name := p[strings.LastIndexByte(p, '/')+1:]
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = p
	}
	return names
}
