package law

import (
	"path"
	"strings"
)

// vague are the names that say nothing of what is inside.
func vague() []string {
	return []string{"util", "utils", "common", "type", "types", "model", "models", "manager", "managers", "controller",
		"controllers", "helper", "helpers", "misc", "shared", "base", "core"}
}

// checkNames wants a name that says what is inside, and a comment that says where to start.
func checkNames(p *Package, report reporter) {
	first := p.Files[0]
	for _, name := range []string{path.Base(p.Path), strings.TrimSuffix(first.File.Name.Name, "_test")} {
		for _, v := range vague() {
			if name == v {
				report(first.Package, "name", "package %s says nothing of what is inside; name the noun it is about", p.Path)
			}
		}
	}
	comment := ""
	for _, f := range p.Files {
		if f.Doc != nil && (!f.Test() || allTests(p)) {
			comment = f.Doc.Text()
			break
		}
	}
	want := "Package " + strings.TrimSuffix(first.File.Name.Name, "_test") + " "
	if first.File.Name.Name == "main" {
		want = "Command " + path.Base(p.Path) + " "
	}
	switch {
	case comment == "":
		report(first.Package, "comment", "package %s has no package comment: what is this room, what may it assume, where to start reading", p.Path)
	case !strings.HasPrefix(comment, want) && !strings.HasPrefix(comment, strings.TrimSuffix(want, " ")+"_test "):
		report(first.Package, "comment", "the comment of package %s does not begin with %q", p.Path, want)
	}
}

func allTests(p *Package) bool {
	for _, f := range p.Files {
		if !f.Test() {
			return false
		}
	}
	return true
}
