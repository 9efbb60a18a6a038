package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/berth-registry/berth/cli/output"
)

// trustedFile is a file that a client reads what it trusts from.
type trustedFile struct {
	path string
	body []byte
}

// trustFile is where a client looks for the authority of a host. None of them wants to be started again for it.
func (a *app) trustFile(client, host string) string {
	home, _ := os.UserHomeDir() // without one the path is relative to the folder one is in
	switch client {
	case "docker":
		if os.Geteuid() == 0 {
			return filepath.Join("/etc/docker/certs.d", host, "ca.crt")
		}
		if _, err := os.Stat(filepath.Join(home, ".config/docker/daemon.json")); err == nil { // docker without root
			return filepath.Join(home, ".config/docker/certs.d", host, "ca.crt")
		}
		return filepath.Join("/etc/docker/certs.d", host, "ca.crt")
	case "containerd":
		return filepath.Join("/etc/containerd/certs.d", host, "ca.crt")
	}
	config := os.Getenv("XDG_CONFIG_HOME")
	if config == "" {
		config = filepath.Join(home, ".config")
	}
	return filepath.Join(config, "containers/certs.d", host, "ca.crt")
}

// trustFiles are the files that make a client trust a host by an authority in PEM form. containerd wants to be told in
// hosts.toml; its config.toml must name /etc/containerd/certs.d as config_path, as k3s and most packages do.
func (a *app) trustFiles(client, host string, authority []byte) ([]trustedFile, error) {
	if host == "" || host != filepath.Base(host) || strings.HasPrefix(host, ".") {
		return nil, output.Usage("%q is no host", host)
	}
	files := []trustedFile{{a.trustFile(client, host), authority}}
	switch client {
	case "podman", "docker":
	case "containerd":
		hosts := fmt.Sprintf("server = %q\n\n[host.%q]\n  capabilities = [\"pull\", \"resolve\", \"push\"]\n  ca = %q\n", "https://"+host, "https://"+host, files[0].path)
		files = append(files, trustedFile{filepath.Join(filepath.Dir(files[0].path), "hosts.toml"), []byte(hosts)})
	default:
		return nil, output.Usage("--for %q is none of podman, docker, containerd", client)
	}
	return files, nil
}

// writeTrust writes a file whole or not at all.
func writeTrust(f trustedFile) error {
	dir := filepath.Dir(f.path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	t, err := os.CreateTemp(dir, ".trust-*")
	if err != nil {
		return err
	}
	defer os.Remove(t.Name()) //nolint:errcheck // it is gone when it was renamed
	if _, err = t.Write(f.body); err == nil {
		err = t.Chmod(0o644)
	}
	if cerr := t.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(t.Name(), f.path)
}
