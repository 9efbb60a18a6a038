package interop_test

import (
	"path/filepath"
	"strings"
	"testing"
)

// Here is where most registries fail their users (ux.md, the ping answer): anonymous pull is on, somebody signs
// in, and the client never sends the credentials because the ping said 200. berthd must serve both with each client.
func TestDockerLogin(t *testing.T) {
	t.Parallel()
	r := guardedRegistry(t)
	docker := newDocker(t)
	app := r.host + "/library/app"
	loadDocker(t, docker, "a", app+":1")

	docker.refused(t, "push", app+":1")
	login(t, docker, "login", "--username", "admin", "--password-stdin", r.host)
	docker.run(t, "push", app+":1")
	docker.run(t, "logout", r.host)
	docker.refused(t, "push", app+":1")

	// The project library is public: everybody pulls from it, and from no other.
	docker.run(t, "image", "rm", app+":1")
	docker.run(t, "pull", app+":1")
	r.push(t, makeImage(t, "private"), "team/app:1")
	docker.refused(t, "pull", r.host+"/team/app:1")
	login(t, docker, "login", "--username", "admin", "--password-stdin", r.host)
	docker.run(t, "pull", r.host+"/team/app:1")
	t.Cleanup(func() { docker.exec(t, nil, "image", "rm", "--force", r.host+"/team/app:1") })
}

func TestPodmanLogin(t *testing.T) {
	t.Parallel()
	r := guardedRegistry(t)
	podman := newPodman(t, r)
	app := r.host + "/library/app"
	loadPodman(t, podman, "a", app+":1")

	podman.refused(t, "push", app+":1")
	login(t, podman, "login", "--username", "admin", "--password-stdin", r.host)
	mustEqual(t, "user", podman.run(t, "login", "--get-login", r.host), "admin")
	podman.run(t, "push", app+":1")
	podman.run(t, "logout", r.host)
	podman.refused(t, "push", app+":1")

	podman.run(t, "rmi", "--all", "--force")
	podman.run(t, "pull", app+":1")
	r.push(t, makeImage(t, "private"), "team/app:1")
	podman.refused(t, "pull", r.host+"/team/app:1")
	podman.run(t, "pull", "--creds", "admin:"+password, r.host+"/team/app:1")
}

// The other clients, each in its own way of signing in: push as the admin, read what is private.
func TestOtherLogins(t *testing.T) {
	t.Parallel()
	r := guardedRegistry(t)
	r.push(t, ociImage(t, "private"), "team/app:1")

	t.Run("skopeo", func(t *testing.T) {
		t.Parallel()
		skopeo := newClient(t, "skopeo", r)
		app := "docker://" + r.host + "/team/app:1"
		skopeo.refused(t, "inspect", app)
		login(t, skopeo, "login", "--username", "admin", "--password-stdin", r.host)
		skopeo.run(t, "inspect", app)
		skopeo.run(t, "copy", app, "docker://"+r.host+"/library/by-skopeo:1")
		skopeo.run(t, "delete", "docker://"+r.host+"/library/by-skopeo:1")
	})
	t.Run("buildah", func(t *testing.T) {
		t.Parallel()
		buildah := newContainerTool(t, "buildah", r)
		buildah.refused(t, "pull", r.host+"/team/app:1")
		login(t, buildah, "login", "--username", "admin", "--password-stdin", r.host)
		buildah.run(t, "pull", r.host+"/team/app:1")
		buildah.run(t, "push", r.host+"/team/app:1", r.host+"/library/by-buildah:1")
	})
	t.Run("crane", func(t *testing.T) {
		t.Parallel()
		crane := newClient(t, "crane", r)
		crane.refused(t, "manifest", r.host+"/team/app:1")
		login(t, crane, "auth", "login", "--username", "admin", "--password-stdin", r.host)
		crane.run(t, "manifest", r.host+"/team/app:1")
		crane.run(t, "copy", r.host+"/team/app:1", r.host+"/library/by-crane:1")
		mustContain(t, crane.run(t, "catalog", r.host), "team/app")
	})
	t.Run("regctl", func(t *testing.T) {
		t.Parallel()
		regctl := newRegctl(t, r, true)
		regctl.refused(t, "manifest", "get", r.host+"/team/app:1")
		login(t, regctl, "registry", "login", "--user", "admin", "--pass-stdin", r.host)
		regctl.run(t, "manifest", "get", r.host+"/team/app:1")
		regctl.run(t, "image", "copy", r.host+"/team/app:1", r.host+"/library/by-regctl:1")
	})
	t.Run("helm", func(t *testing.T) {
		t.Parallel()
		helm, ca := newHelm(t, r)
		chart := helmChart(t, helm, "0.1.0")
		helm.refused(t, "push", chart, "oci://"+r.host+"/library/charts", ca)
		login(t, helm, "registry", "login", "--username", "admin", "--password-stdin", ca, r.host)
		helm.run(t, "push", chart, "oci://"+r.host+"/library/charts", ca)
		helm.run(t, "registry", "logout", r.host)
		helm.run(t, "pull", "oci://"+r.host+"/library/charts/hello", "--version", "0.1.0", ca)
	})
	t.Run("cosign", func(t *testing.T) {
		t.Parallel()
		cosign := newCosign(t, r)
		login(t, cosign, "login", "--username", "admin", "--password-stdin", r.host)
		cosign.run(t, "sign", "--yes", "--key", "cosign.key", "--tlog-upload=false", "--use-signing-config=false", r.host+"/team/app:1")
		cosign.run(t, "verify", "--key", "cosign.pub", "--insecure-ignore-tlog=true", r.host+"/team/app:1")
	})
}

// Users of an htpasswd file, which is how a registry of CNCF distribution is moved here.
func TestHtpasswdLogin(t *testing.T) {
	t.Parallel()
	r := guardedRegistry(t, htpasswdEnv(t)...)
	podman := newPodman(t, r)
	app := r.host + "/library/app:1"
	loadPodman(t, podman, "a", app)
	signIn(t, podman, r)
	podman.run(t, "push", app)
	podman.run(t, "pull", app)
}

const builderPassword = "builder-secret"

// htpasswdEnv names an htpasswd file with the user builder.
func htpasswdEnv(t testing.TB) []string {
	t.Helper()
	// bcrypt of builderPassword, as `htpasswd -B` writes it.
	file := writeFile(t, filepath.Join(t.TempDir(), "htpasswd"),
		[]byte("builder:$2a$05$cKoEdXfO/UbsiaNnPzrkzusiLOyEmMakaKG4O2p6ZQIQlNNg4QF7C\n"))
	return []string{"REGISTRY_AUTH_HTPASSWD_REALM=berth", "REGISTRY_AUTH_HTPASSWD_PATH=" + file}
}

// signIn signs the client in as builder.
func signIn(t testing.TB, c *client, r *registry) {
	t.Helper()
	signInAs(t, c, r, "builder", builderPassword)
}

// signInAs signs the client in, in its own way.
func signInAs(t testing.TB, c *client, r *registry, name, password string) {
	t.Helper()
	args := []string{"login", "--username", name, "--password-stdin", r.host}
	switch c.name {
	case "crane":
		args = append([]string{"auth"}, args...)
	case "helm":
		args = append([]string{"registry"}, args...)
	case "regctl":
		args = []string{"registry", "login", r.host, "--user", name, "--pass-stdin"}
	case "ctr": // it keeps no credentials: a flag at the end of each command
		c.suffix = []string{"--user", name + ":" + password}
		return
	}
	c.pipe(t, strings.NewReader(password), args...)
}

// login runs a login command with the admin's password on standard input.
func login(t testing.TB, c *client, args ...string) {
	t.Helper()
	c.pipe(t, strings.NewReader(password), args...)
}
