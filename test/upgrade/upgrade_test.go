package upgrade

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-registry/berth/internal/testkit"
)

// TestVersionBefore: the version before and today's serve one database, each what the other was given, in any order.
func TestVersionBefore(t *testing.T) {
	old := before(t)
	env := []string{"BERTH_ANONYMOUS=push"}
	t.Run("PostgreSQL", func(t *testing.T) {
		o := testkit.Options{Database: testkit.Postgres(t), Data: t.TempDir(), Env: env}
		first := old.start(t, o) // makes the schema as it was
		push(t, first, "one")
		today := testkit.Start(t, o) // brings it up to date beside it
		expect(t, today.URL, "one")
		push(t, first, "two")
		push(t, today.URL, "three")
		expect(t, today.URL, "one", "two", "three")
		expect(t, first, "one", "two", "three")
		late := old.start(t, o) // starts on a schema that it does not know
		push(t, late, "four")
		expect(t, today.URL, "one", "two", "three", "four")
		push(t, today.URL, "five")
		expect(t, late, "one", "two", "three", "four", "five")
	})
	t.Run("SQLite", func(t *testing.T) {
		o := testkit.Options{Data: t.TempDir(), Env: env}
		t.Run("Before", func(t *testing.T) { push(t, old.start(t, o), "one") })
		t.Run("Today", func(t *testing.T) {
			today := testkit.Start(t, o)
			expect(t, today.URL, "one")
			push(t, today.URL, "two")
		})
		t.Run("TakenBack", func(t *testing.T) {
			first := old.start(t, o)
			expect(t, first, "one", "two")
			push(t, first, "three")
		})
		t.Run("Again", func(t *testing.T) { expect(t, testkit.Start(t, o).URL, "one", "two", "three") })
	})
}

// version is a berthd that was built from history.
type version struct{ binary string }

// start starts it and returns its URL.
func (v version) start(t *testing.T, o testkit.Options) string {
	t.Helper()
	o.Binary = v.binary
	return testkit.Start(t, o).URL
}

// before builds the version before. Without the history that has it, the test is skipped, or fails where skipping is not
// allowed.
func before(t *testing.T) version {
	t.Helper()
	root := clone(t)
	if tag := strings.TrimSpace(git(t, root, "tag", "--list", "v*", "--sort=-version:refname", "--merged", "HEAD~1")); tag != "" {
		tag, _, _ = strings.Cut(tag, "\n")
		return build(t, root, tag)
	}
	// The oldest commit that added a migration beside the first one, and what was before it.
	added := strings.Fields(git(t, root, "log", "--diff-filter=A", "--reverse", "--format=%H", "--", "server/metadb/migrations"))
	if len(added) < 2 {
		t.Fatalf("the history has %d commits that add migrations, and the version before is before the second", len(added))
	}
	commits := strings.Fields(git(t, root, "log", "--first-parent", "--format=%H", "-8", added[1]+"^"))
	var failed error
	for _, c := range commits {
		v, err := tryBuild(t, root, c)
		if err == nil {
			t.Logf("the version before is %.12s", c)
			return v
		}
		failed = errors.Join(failed, err) // not every commit of a day's work builds
	}
	t.Fatalf("no commit before the second migration builds: %v", failed)
	return version{}
}

func build(t *testing.T, root, commit string) version {
	t.Helper()
	v, err := tryBuild(t, root, commit)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the version before is %s", commit)
	return v
}

// tryBuild builds berthd as it was at a commit, beside the working tree, which it does not touch.
func tryBuild(t *testing.T, root, commit string) (version, error) {
	t.Helper()
	dir := t.TempDir()
	archive := exec.CommandContext(t.Context(), "git", "-C", root, "archive", "--format=tar", commit, "--", "go.mod", "go.sum", "cmd", "server", "oci", "fault", "internal")
	out, err := archive.Output()
	if err != nil {
		return version{}, fmt.Errorf("git archive %s: %w", commit, err)
	}
	if err := unpack(dir, out); err != nil {
		return version{}, err
	}
	v := version{filepath.Join(dir, "berthd-before")}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-o", v.binary, "./cmd/berthd")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod")
	if text, err := cmd.CombinedOutput(); err != nil {
		return version{}, fmt.Errorf("build %s: %w\n%.500s", commit, err, text)
	}
	return v, nil
}

func unpack(dir string, archive []byte) error {
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(path, 0o755)
		case tar.TypeReg:
			var content []byte
			if content, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(path, content, 0o644)
			}
		}
		if err != nil {
			return err
		}
	}
}

// clone is the clone that this is, with all of its history: of a part of it, any commit may look like the first.
func clone(t *testing.T) (root string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "git", "rev-parse", "--show-toplevel").Output()
	if err != nil {
		testkit.Missing(t, "git rev-parse: %v; the version before is built from git's history: run this in a clone, with git installed", err)
	}
	root = strings.TrimSpace(string(out))
	if err := whole(t, root); err != nil {
		testkit.Missing(t, "%v", err)
	}
	return root
}

// whole says what to do about a clone that has a part of its history only.
func whole(t *testing.T, root string) error {
	t.Helper()
	if strings.TrimSpace(git(t, root, "rev-parse", "--is-shallow-repository")) != "false" {
		return fmt.Errorf("%s is a shallow clone, and the version before is built from git's history: run `git fetch --unshallow`", root)
	}
	return nil
}

// git asks git.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", dir}, args...)...).Output()
	if err != nil {
		t.Fatalf("git %s: %v", args[0], err)
	}
	return string(out)
}

// A plain clone is enough, and a shallow one is told apart from it.
func TestShallowClone(t *testing.T) {
	root := clone(t)
	for name, c := range map[string]struct {
		args    []string
		refused bool
	}{
		"full":    {[]string{root}, false},
		"shallow": {[]string{"--depth", "1", "file://" + root}, true},
	} {
		dir := filepath.Join(t.TempDir(), name)
		git(t, root, append(append([]string{"clone", "--quiet", "--no-checkout"}, c.args...), dir)...)
		err := whole(t, dir)
		if (err != nil) != c.refused || err != nil && !strings.Contains(err.Error(), "git fetch --unshallow") {
			t.Errorf("a %s clone: %v", name, err)
		}
	}
}

func manifest(tag string) string {
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"annotations":{"tag":%q}}`, tag)
}

func do(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/vnd.oci.image.index.v1+json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func push(t *testing.T, url, tag string) {
	t.Helper()
	if code, text := do(t, http.MethodPut, url+"/v2/team/app/manifests/"+tag, manifest(tag)); code != http.StatusCreated {
		t.Fatalf("push of %s: %d %s", tag, code, text)
	}
}

func expect(t *testing.T, url string, tags ...string) {
	t.Helper()
	for _, tag := range tags {
		if code, text := do(t, http.MethodGet, url+"/v2/team/app/manifests/"+tag, ""); code != http.StatusOK || text != manifest(tag) {
			t.Errorf("pull of %s: %d %s", tag, code, text)
		}
	}
	if code, text := do(t, http.MethodGet, url+"/v2/team/app/tags/list", ""); code != http.StatusOK || strings.Count(text, `"`) != 2*(len(tags)+3) {
		t.Errorf("tags are %d %s, want %v", code, text, tags)
	}
}
