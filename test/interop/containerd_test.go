package interop_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-registry/berth/internal/testkit"
)

// ctrs are the two clients that stand for a Kubernetes node: Debian's containerd with its own ctr, and the resolver
// and fetcher of containerd 2, which is what ctr 2 runs itself when it is told --local.
func ctrs(t *testing.T, test func(t *testing.T, r *registry, ctr *client, local []string)) {
	for _, which := range []struct {
		name    string
		program func(testing.TB) string
		local   []string
	}{
		{"containerd 1.6", func(testing.TB) string { return "/usr/bin/ctr" }, nil},
		{"containerd 2", func(t testing.TB) string { return peer(t, "ctr") }, []string{"--local"}},
	} {
		t.Run(which.name, func(t *testing.T) {
			t.Parallel()
			socket := shared.containerd(t)
			r := openRegistry(t)
			c := &client{name: "ctr", bin: which.program(t), home: t.TempDir(), within: commandTime}
			// A namespace for each test: image names there are its own.
			_, port, _ := strings.Cut(r.host, ":")
			c.flags = []string{"--address", socket, "--namespace", "test-" + port}
			t.Cleanup(func() { dropNamespace(t, c, "test-"+port) })
			test(t, r, c, which.local)
		})
	}
}

// hostsDir writes containerd's certs.d: TLS with the CA that berthd hands out.
func hostsDir(t testing.TB, r *registry) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "certs.d")
	ca := writeFile(t, filepath.Join(dir, r.host, "ca.crt"), r.ca)
	writeFile(t, filepath.Join(dir, r.host, "hosts.toml"), fmt.Appendf(nil,
		"server = %q\n[host.%q]\n  capabilities = [\"pull\", \"resolve\", \"push\"]\n  ca = %q\n",
		"https://"+r.host, "https://"+r.host, ca))
	return dir
}

func dropNamespace(t testing.TB, ctr *client, namespace string) {
	if names := strings.Fields(ctr.exec(t, nil, "images", "list", "--quiet").stdout); len(names) > 0 {
		ctr.exec(t, nil, append([]string{"images", "remove", "--sync"}, names...)...)
	}
	ctr.exec(t, nil, "namespaces", "remove", namespace)
}

func TestContainerdPullPush(t *testing.T) {
	t.Parallel()
	ctrs(t, func(t *testing.T, r *registry, ctr *client, local []string) {
		transfer := append([]string{"--hosts-dir", hostsDir(t, r)}, local...)
		app := r.host + "/team/app"
		index := multiArch(t, "a")
		r.push(t, index, "team/app:multi")
		images := func(verb string, flags []string, args ...string) {
			t.Helper()
			ctr.run(t, slices.Concat([]string{"images", verb}, flags, args)...)
		}

		images("pull", transfer, "--all-platforms", app+":multi")
		mustContain(t, ctr.run(t, "images", "list"), digestOf(t, index))
		mustContain(t, ctr.run(t, "images", "check"), "complete")
		images("pull", transfer, app+"@"+digestOf(t, index))

		// Pushed under another name, the content is mounted or found, and the index is the same.
		images("tag", local, app+":multi", r.host+"/other/app:multi")
		images("push", transfer, r.host+"/other/app:multi")
		_, _, digest := r.manifest(t, "other/app", "multi")
		mustEqual(t, "digest of the pushed index", digest, digestOf(t, index))
	})
}

// TestContainerdAuth pulls and pushes with a user's name and password, which containerd turns into a token.
func TestContainerdAuth(t *testing.T) {
	t.Parallel()
	needRoot(t, "containerd")
	socket := shared.containerd(t)
	r := startRegistry(t, testkit.Options{Env: []string{"BERTH_ANONYMOUS=none"}})
	hosts := hostsDir(t, r)
	r.push(t, ociImage(t, "a"), "team/app:1")

	ctr := &client{name: "ctr", bin: peer(t, "ctr"), home: t.TempDir(), within: commandTime}
	ctr.flags = []string{"--address", socket, "--namespace", "auth"}
	t.Cleanup(func() { dropNamespace(t, ctr, "auth") })
	app := r.host + "/team/app"
	ctr.refused(t, "images", "pull", "--local", "--hosts-dir", hosts, app+":1")
	ctr.run(t, "images", "pull", "--local", "--hosts-dir", hosts, "--user", "admin:"+password, app+":1")
	ctr.run(t, "images", "tag", "--local", app+":1", app+":2")
	ctr.refused(t, "images", "push", "--local", "--hosts-dir", hosts, app+":2")
	ctr.run(t, "images", "push", "--local", "--hosts-dir", hosts, "--user", "admin:"+password, app+":2")
	r.manifest(t, "team/app", "2")
}
