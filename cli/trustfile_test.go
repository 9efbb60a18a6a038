package cli_test

import (
	"testing"

	"github.com/berth-registry/berth/cli"
)

// What else stands in the file of k3s stays, and what was put in can be taken out again.
func TestK3sRegistries(t *testing.T) {
	const ca = "/etc/rancher/k3s/certs.d/h:5000/ca.crt"
	for _, tc := range []struct{ name, old, ca, want string }{
		{"none", "", ca, "configs:\n  h:5000:\n    tls:\n      ca_file: " + ca + "\n"},
		{"others", "# ours\nmirrors:\n  docker.io:\n    endpoint: ['https://m']\nconfigs:\n  other:\n    auth:\n      username: u\n", ca,
			"# ours\nmirrors:\n  docker.io:\n    endpoint: ['https://m']\nconfigs:\n  other:\n    auth:\n      username: u\n  h:5000:\n    tls:\n      ca_file: " + ca + "\n"},
		{"the same host", "configs:\n  h:5000:\n    tls:\n      ca_file: /old # why\n      insecure_skip_verify: false\n", ca,
			"configs:\n  h:5000:\n    tls:\n      ca_file: " + ca + "\n      insecure_skip_verify: false\n"},
		{"empty keys", "configs:\n", ca, "configs:\n  h:5000:\n    tls:\n      ca_file: " + ca + "\n"},
		{"removal", "configs:\n  h:5000:\n    auth:\n      username: u\n    tls:\n      ca_file: " + ca + "\n", "", "configs:\n  h:5000:\n    auth:\n      username: u\n    tls: {}\n"},
		{"removal of what is not there", "mirrors: {}\n", "", "mirrors: {}\n"},
	} {
		got, err := cli.K3sRegistries([]byte(tc.old), "h:5000", tc.ca)
		if err != nil || string(got) != tc.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", tc.name, err, got, tc.want)
		}
	}
	for _, old := range []string{"configs: [a]\n", "configs:\n  h:5000: x\n", "a: b: c\n", "- a\n"} {
		if got, err := cli.K3sRegistries([]byte(old), "h:5000", ca); err == nil {
			t.Errorf("%q is written over by %q", old, got)
		}
	}
}
