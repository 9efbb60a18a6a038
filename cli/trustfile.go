package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/berth-registry/berth/cli/output"
)

// trustedFile is a file that a client reads what it trusts from.
type trustedFile struct {
	path   string
	body   []byte
	shared bool // something else stands in it, too: it is written again and never removed
}

// trustFile is where a client looks for the authority of a host; "" where this machine has no such place. Only k3s wants to be started
// again for it, and the system to be told.
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
	case "k3s":
		return filepath.Join(k3sFolder, "certs.d", host, "ca.crt")
	case "system":
		s, ok := systemStore()
		if !ok {
			return ""
		}
		return filepath.Join(s.folder, "berth-"+strings.NewReplacer(":", "-", "[", "", "]", "").Replace(host)+".crt")
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
	file := a.trustFile(client, host)
	if file == "" {
		return nil, &output.Failure{What: a.t("the folder of the system's authorities was not found on this machine", "未找到本机的系统证书目录"), Exit: output.ExitFailure,
			Fix: a.t("berth trust --print --for podman "+host+" shows the certificate, for a place that you know", "berth trust --print --for podman "+host+" 输出证书，请放入您已知的位置")}
	}
	files := []trustedFile{{file, authority, false}}
	switch client {
	case "podman", "docker", "system":
	case "k3s":
		name := filepath.Join(k3sFolder, "registries.yaml")
		old, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		var ca string
		if authority != nil {
			ca = file
		}
		body, err := k3sRegistries(old, host, ca)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if authority != nil || len(old) > 0 {
			files = append(files, trustedFile{name, body, true})
		}
	case "containerd":
		hosts := fmt.Sprintf("server = %q\n\n[host.%q]\n  capabilities = [\"pull\", \"resolve\", \"push\"]\n  ca = %q\n", "https://"+host, "https://"+host, files[0].path)
		files = append(files, trustedFile{filepath.Join(filepath.Dir(files[0].path), "hosts.toml"), []byte(hosts), false})
	default:
		return nil, unknownClient(client)
	}
	return files, nil
}

func unknownClient(name string) error {
	return output.Usage("--for %q is none of podman, docker, containerd, k3s, system", name)
}

// k3sFolder is where k3s and RKE2's little brother look for registries.
const k3sFolder = "/etc/rancher/k3s"

// k3sRegistries is registries.yaml with, or for "" without, an authority for a host. Everything else of it stays, comments included.
func k3sRegistries(old []byte, host, ca string) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(old, &doc); err != nil {
		return nil, err
	}
	if doc.Kind == 0 {
		doc = yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{{Kind: yaml.MappingNode, Tag: "!!map"}}}
	}
	at := doc.Content[0]
	if at.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: it is no mapping", at.Line)
	}
	for _, key := range []string{"configs", host, "tls"} {
		if at = child(at, key, ca != ""); at == nil {
			return old, nil
		}
		if at.Kind != yaml.MappingNode {
			return nil, fmt.Errorf("line %d: %s is no mapping", at.Line, key)
		}
	}
	if ca == "" {
		for i := 0; i+1 < len(at.Content); i += 2 {
			if at.Content[i].Value == "ca_file" {
				at.Content = append(at.Content[:i], at.Content[i+2:]...)
				break
			}
		}
	} else {
		value := child(at, "ca_file", true)
		*value = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: ca}
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	err := errors.Join(enc.Encode(&doc), enc.Close())
	return out.Bytes(), err
}

// child is the value of a key of a mapping; one that is not there, or has no value, is made when it is wanted, else nil.
func child(m *yaml.Node, key string, make bool) *yaml.Node {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value != key {
			continue
		}
		if v := m.Content[i+1]; v.Tag != "!!null" || !make {
			return v
		}
		m.Content[i+1] = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		return m.Content[i+1]
	}
	if !make {
		return nil
	}
	v := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	m.Content = append(m.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, v)
	return v
}

// anchors is a folder of further authorities of a system, and the command that takes them into its store.
type anchors struct {
	folder  string
	command []string
}

// systemStore is that of this machine, by which folder is there.
func systemStore() (anchors, bool) {
	for _, s := range []anchors{
		{"/usr/local/share/ca-certificates", []string{"update-ca-certificates"}},     // Debian, Ubuntu, Alpine
		{"/etc/pki/ca-trust/source/anchors", []string{"update-ca-trust", "extract"}}, // Fedora, RHEL, openEuler
		{"/etc/pki/trust/anchors", []string{"update-ca-certificates"}},               // SUSE
		{"/etc/ca-certificates/trust-source/anchors", []string{"update-ca-trust"}},   // Arch
	} {
		if info, err := os.Stat(s.folder); err == nil && info.IsDir() {
			return s, true
		}
	}
	return anchors{}, false
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
