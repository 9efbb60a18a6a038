package law

import (
	"errors"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strings"
)

// checkState forbids what makes one part of a program depend on another unseen: package variables that change, init
// functions, and imports for their side effects. Test files and what is for tests only are free.
func checkState(t *Tree, p *Package, report reporter) {
	if part := locate(p.Path).part; part == kit || part == whole {
		return
	}
	var files []*ast.File
	for _, f := range p.Files {
		if f.Test() {
			continue
		}
		files = append(files, f.File)
		for _, spec := range f.Imports {
			if spec.Name == nil || spec.Name.Name != "_" || importPath(spec) == "embed" || p.Path == "server/metadb" {
				continue
			}
			report(spec.Pos(), "blank import", "package %s imports %s for its side effect; call what it offers", p.Path, importPath(spec))
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				report(fn.Pos(), "init", "package %s has an init function; build it in New, where an error can be returned", p.Path)
			}
		}
	}
	if len(files) > 0 {
		checkVariables(t, p, files, report)
	}
}

// checkVariables finds package variables that are written to, or whose type exists to be written to.
func checkVariables(t *Tree, p *Package, files []*ast.File, report reporter) {
	info := &types.Info{Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{}}
	// Only names have to be resolved, inside of one package; so what it imports may stay unknown, and so may its errors.
	conf := types.Config{Error: func(error) {}, Importer: nothing{}, FakeImportC: true}
	pkg, _ := conf.Check(p.Path, t.fset, files, info)
	global := func(e ast.Expr) *types.Var {
		id := root(e)
		if id == nil {
			return nil
		}
		v, ok := info.Uses[id].(*types.Var)
		if !ok || v.Parent() != pkg.Scope() {
			return nil
		}
		return v
	}
	written := func(e ast.Expr) {
		if v := global(e); v != nil {
			report(e.Pos(), "variable", "package variable %s is written to; put it into a struct that is made once and passed on", v.Name())
		}
	}
	for _, f := range files {
		for _, d := range f.Decls {
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.VAR {
				checkTypes(g, report)
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				if n.Tok != token.DEFINE {
					for _, e := range n.Lhs {
						written(e)
					}
				}
			case *ast.IncDecStmt:
				written(n.X)
			case *ast.RangeStmt:
				if n.Tok == token.ASSIGN {
					written(n.Key)
					if n.Value != nil {
						written(n.Value)
					}
				}
			case *ast.UnaryExpr:
				if n.Op == token.AND {
					written(n.X)
				}
			case *ast.CallExpr:
				if id, ok := n.Fun.(*ast.Ident); ok && len(n.Args) > 0 && slices.Contains([]string{"delete", "clear", "copy"}, id.Name) {
					written(n.Args[0])
				}
			}
			return true
		})
	}
}

// checkTypes refuses variables of types that are there to change: locks, atomics, maps of sync, channels. A sync.Pool
// is none: what it gives back has no meaning. A sync.Once value is none: it is written once, to the same end whoever asks.
func checkTypes(g *ast.GenDecl, report reporter) {
	for _, s := range g.Specs {
		v := s.(*ast.ValueSpec)
		mutable := ""
		look := func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncLit, *ast.FuncType:
				return false
			case *ast.ChanType:
				mutable = "a channel"
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && (x.Name == "sync" || x.Name == "atomic") &&
					n.Sel.Name != "Pool" && !strings.HasPrefix(n.Sel.Name, "Once") {
					mutable = x.Name + "." + n.Sel.Name
				}
			}
			return true
		}
		if v.Type != nil {
			ast.Inspect(v.Type, look)
		}
		for _, e := range v.Values {
			ast.Inspect(e, look)
		}
		if mutable != "" {
			report(v.Pos(), "variable", "package variable %s holds %s, which changes; put it into a struct that is made once and passed on", v.Names[0].Name, mutable)
		}
	}
}

// root is the variable that an expression reaches into: x of x.f[i].g, nil when there is none.
func root(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// nothing imports nothing.
type nothing struct{}

var _ types.Importer = nothing{}

func (nothing) Import(string) (*types.Package, error) { return nil, errors.New("not imported") }
