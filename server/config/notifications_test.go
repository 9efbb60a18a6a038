package config_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/berth-registry/berth/server/config"
)

const endpoints = `notifications:
  endpoints:
    - name: ci
      url: https://alice:hush1@ci.example.com/hook?token=hush2
      headers: {Authorization: [hush3]}
      ignore: {actions: [pull, tag]}
`

// TestEndpointSecrets: neither the URL nor the headers of an endpoint are printed, and a word that no event has is said.
func TestEndpointSecrets(t *testing.T) {
	l := mustLoad(t, endpoints)
	e := l.Config.Notifications.Endpoints[0]
	if !strings.Contains(e.URL.Reveal(), "hush2") || e.Headers["Authorization"][0].Reveal() != "hush3" {
		t.Errorf("endpoint %+v", e)
	}
	var out bytes.Buffer
	if err := l.Dump(&out, config.DumpOptions{Origin: true}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "hush") {
		t.Errorf("a secret is shown:\n%s", out.String())
	}
	if len(l.Warnings) != 1 || !strings.Contains(l.Warnings[0].String(), `ignores the action "tag"`) {
		t.Errorf("warnings %v", l.Warnings)
	}
}

// TestEndpointsRefused holds what could not be delivered to; what is said never has the URL in it.
func TestEndpointsRefused(t *testing.T) {
	for what, test := range map[string]struct{ file, want string }{
		"two of a name": {"[{name: a, url: 'http://h/hush'}, {name: a, url: 'http://h/hush'}]", `two endpoints are called "a"`},
		"no name":       {"[{url: 'http://h/hush'}]", "must be set"},
		"no url":        {"[{name: a}]", `endpoint "a" has no url`},
		"no web":        {"[{name: a, url: 'ftp://h/hush'}]", "expects a URL that begins with https:// or http://"},
		"header of two": {"[{name: a, url: 'http://h', headers: {X: [\"hush\\r\\nY: z\"]}}]", "expects a value of one line"},
	} {
		_, err := load("notifications:\n  endpoints: " + test.file + "\n")
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
