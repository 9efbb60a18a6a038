package phrase_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/berth-registry/berth/cli/phrase"
)

// Every English text that a room below the tool can give it, and every one of the tool's own that is not said in both languages
// where it is made, is in the catalogue.
func TestEveryTextHasChinese(t *testing.T) {
	all := spoken(t, "../../image", "../../oci", "..")
	if len(all) < 300 {
		t.Fatalf("only %d texts were found: the search for them is broken", len(all))
	}
	has := maps.Collect(phrase.All())
	for _, text := range slices.Sorted(maps.Keys(all)) {
		if has[text] == "" {
			t.Errorf("%s: no Chinese in zh-CN.txt for\n%s", all[text], text)
		}
	}
}

var (
	verbs  = regexp.MustCompile(`%(\[\d\])?[.0-9+]*[a-zA-Z]`)
	before = regexp.MustCompile(`^(?:%[.0-9]*[sqvw][:;] )+`)
	after  = regexp.MustCompile(`(?:[:;] %[.0-9]*[svw])+$`)
	// what is typed as it stands
	commands = regexp.MustCompile(`^(--[a-z-]+|%s|%s%s) (?:--[a-z]+|%s\S*|[A-Z]+\S*)|^(?:berth|sudo|podman|gpg|cp|--key FILE) |^--[a-z-]+(?:=| NAME| tarball| all|$)`)
	words    = regexp.MustCompile(`\pL{2}`)
)

// spoken are the English texts in the source of rooms that a person may read: the formats of faults, refusals, findings, wrong
// command lines and other errors, without what only joins them, and where each is.
func spoken(t *testing.T, roots ...string) map[string]string {
	t.Helper()
	dirs := map[string][]*ast.File{}
	fset := token.NewFileSet()
	for _, root := range roots {
		if err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case e.IsDir() && (e.Name() == "signtest" || e.Name() == "testdata"):
				return fs.SkipDir
			case e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
				return nil
			case filepath.Base(path) == "pattern.go": // of grants, which the tool does not read
				return nil
			}
			f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
			dirs[filepath.Dir(path)] = append(dirs[filepath.Dir(path)], f)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	out := map[string]string{}
	for dir, files := range dirs {
		makers := map[string]int{"fault.New": 2, "errors.New": 0, "fmt.Errorf": 0, "output.Usage": 0, "WithFix": 0}
		for _, f := range files {
			ast.Inspect(f, func(n ast.Node) bool { note(n, makers); return true })
		}
		for _, f := range files {
			ast.Inspect(f, func(n ast.Node) bool {
				e := spokenBy(n, makers)
				if e == nil {
					return true
				}
				text, own := flat(e)
				if strings.HasPrefix(text, filepath.Base(dir)+": ") { // a step on the way, for who looks for a mistake of ours
					return true
				}
				text = strings.TrimSpace(after.ReplaceAllString(before.ReplaceAllString(text, ""), ""))
				if commands.MatchString(text) {
					return true
				}
				if own && strings.Contains(text, " ") && words.MatchString(verbs.ReplaceAllString(text, "")) {
					out[text] = fset.Position(e.Pos()).String()
				}
				return true
			})
		}
	}
	return out
}

// note remembers a function that makes a text of a parameter called format.
func note(n ast.Node, makers map[string]int) {
	name, fn := "", (*ast.FuncType)(nil)
	switch n := n.(type) {
	case *ast.FuncDecl:
		name, fn = n.Name.Name, n.Type
	case *ast.AssignStmt:
		id, isName := n.Lhs[0].(*ast.Ident)
		if lit, ok := n.Rhs[0].(*ast.FuncLit); ok && isName {
			name, fn = id.Name, lit.Type
		}
	}
	if fn == nil || fn.Params == nil {
		return
	}
	i := 0
	for _, field := range fn.Params.List {
		for _, p := range field.Names {
			if p.Name == "format" {
				makers[name] = i
			}
			i++
		}
	}
}

// spokenBy is the expression of a node that is a text for people; nil when there is none.
func spokenBy(n ast.Node, makers map[string]int) ast.Expr {
	switch n := n.(type) {
	case *ast.CallExpr:
		name := ""
		switch f := n.Fun.(type) {
		case *ast.Ident:
			name = f.Name
		case *ast.SelectorExpr:
			name = f.Sel.Name
			if x, ok := f.X.(*ast.Ident); ok {
				if _, ok := makers[x.Name+"."+name]; ok {
					name = x.Name + "." + name
				}
			}
		}
		if i, ok := makers[name]; ok && i < len(n.Args) {
			return n.Args[i]
		}
	case *ast.KeyValueExpr:
		if k, ok := n.Key.(*ast.Ident); ok {
			return fieldText(k.Name, n.Value)
		}
	case *ast.AssignStmt:
		for i, left := range n.Lhs {
			if sel, ok := left.(*ast.SelectorExpr); ok && len(n.Lhs) == len(n.Rhs) {
				if e := fieldText(sel.Sel.Name, n.Rhs[i]); e != nil {
					return e
				}
			}
		}
	}
	return nil
}

// fieldText is what a field of that name is given, when it is text for people.
func fieldText(field string, value ast.Expr) ast.Expr {
	if !slices.Contains([]string{"Message", "what", "What", "Why", "Fix"}, field) {
		return nil
	}
	if _, own := flat(value); own {
		return value
	}
	call, ok := value.(*ast.CallExpr)
	if !ok {
		return nil
	}
	if sel, ok := call.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Sprintf" {
		return call.Args[0]
	}
	return nil
}

// flat is the format of an expression: its literals, and %s for the rest; own is false when it has none.
func flat(e ast.Expr) (format string, own bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		return s, err == nil && e.Kind == token.STRING
	case *ast.BinaryExpr:
		x, one := flat(e.X)
		y, other := flat(e.Y)
		return x + y, one || other
	}
	return "%s", false
}

func TestSay(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"a whole phrase", `the image has no file "/etc/x"`, `镜像中没有文件 "/etc/x"`},
		{"another order", "get manifest v1 of team/app", "获取 team/app 的清单 v1"},
		{"parts of a chain", "reg.example.com: get manifest v1 of team/app: it is not there (404 Not Found)",
			"reg.example.com：获取 team/app 的清单 v1：不存在 (404 Not Found)"},
		{"semicolons", "the policy does not allow the image; policy.json: it was made by another key", "策略不允许该镜像；policy.json：由其他密钥签名"},
		{"a phrase with marks of its own", "blob sha256:ab: 3 bytes came; its descriptor says 4", "blob sha256:ab：收到 3 字节；描述符声明 4"},
		{"the cause of a phrase", "reg: get manifest a of b: the connection failed: dial tcp 127.0.0.1:1: connect: connection reset by peer",
			"reg：获取 b 的清单 a：连接失败：连接 127.0.0.1:1：连接：连接被对方重置"},
		{"a name that is a word of the catalogue", "get manifest image of index", "获取 index 的清单 image"},
		{"a quoted name with marks", `the image has no file "a: b; c \" d"`, `镜像中没有文件 "a: b; c \" d"`},
		{"a remark at the end", "image sha256:ab has no signature that is believed, of 9 looked at (only the first 8 of them, or 4 MiB, are looked at)",
			"镜像 sha256:ab 没有可信的签名，共检查 9 个（只检查其中前 8 个或 4 MiB）"},
		{"what nobody knows", "some registry: says a thing; and another", "some registry: says a thing; and another"},
		{"what is Chinese already", "无法复制 docker://a: b", "无法复制 docker://a: b"},
		{"a format in what was given", "the image has no file \"%s %[9]d\"", "镜像中没有文件 \"%s %[9]d\""},
		{"nothing", "", ""},
	} {
		if got := phrase.Say(c.in); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

// A phrase has the verbs of its English in Chinese, each once, and no text twice.
func TestCatalogue(t *testing.T) {
	seen := map[string]bool{}
	for en, zh := range phrase.All() {
		if seen[en] {
			t.Errorf("%q is there twice", en)
		}
		seen[en] = true
		if !strings.ContainsFunc(zh, func(r rune) bool { return unicode.Is(unicode.Han, r) }) {
			t.Errorf("%q has no Chinese: %q", en, zh)
		}
		args := make([]any, strings.Count(en, "%"))
		for i := range args {
			args[i] = mark(i)
		}
		inEnglish, inChinese := fmt.Sprintf(verbs.ReplaceAllString(en, "%v"), args...), fmt.Sprintf(verbs.ReplaceAllString(zh, "%${1}v"), args...)
		for i := range args {
			if strings.Count(inEnglish, mark(i)) != 1 || strings.Count(inChinese, mark(i)) != 1 {
				t.Errorf("%q loses or repeats a verb: %q", en, zh)
			}
		}
		if strings.Contains(inChinese, "%!") {
			t.Errorf("%q has more verbs than %q", zh, en)
		}
	}
}

// mark is a text that stands for the verb number i.
func mark(i int) string { return fmt.Sprintf("<%c>", 'α'+rune(i)) }
