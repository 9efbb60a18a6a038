package law

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// Linked lists the modules, besides the standard library and the tree's own, whose packages a program of the tree links
// without cgo, sorted. It runs go list.
func Linked(ctx context.Context, t *Tree, program string) ([]string, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "./"+program)
	cmd.Dir = t.root
	cmd.Stderr = os.Stderr
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("law: modules of %s: %w", program, err)
	}
	modules := strings.Fields(string(out))
	slices.Sort(modules)
	modules = slices.Compact(modules)
	return slices.DeleteFunc(modules, func(m string) bool { return m == t.Module }), nil
}
