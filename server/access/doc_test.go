package access_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-registry/berth/server/identity"
)

// TestDocumentedRoles holds the table of docs/operate/access.md to what the roles are.
func TestDocumentedRoles(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "operate", "access.md"))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("| verb |")
	for _, r := range identity.BuiltinRoles() {
		fmt.Fprintf(&b, " %s |", r.Name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(identity.BuiltinRoles())) + "\n")
	for _, v := range append(identity.RepositoryVerbs(), identity.ProjectVerbs()...) {
		fmt.Fprintf(&b, "| `%s` |", v)
		for _, r := range identity.BuiltinRoles() {
			fmt.Fprintf(&b, " %s |", map[bool]string{true: "yes"}[slices.Contains(r.Verbs, v)])
		}
		b.WriteString("\n")
	}
	if !strings.Contains(string(text), "<!-- roles -->\n"+b.String()) {
		t.Errorf("docs/operate/access.md has another table than\n%s", b.String())
	}
	_, after, _ := strings.Cut(string(text), "<!-- registry verbs -->\n")
	list, _, _ := strings.Cut(after, "\n\n")
	var want []string
	for _, v := range identity.RegistryVerbs() {
		if identity.Grantable(v) {
			want = append(want, "`"+string(v)+"`")
		}
	}
	if !slices.Equal(strings.Fields(list), want) {
		t.Errorf("docs/operate/access.md names %s, and there are %s", list, want)
	}
}
