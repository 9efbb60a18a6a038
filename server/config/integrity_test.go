package config_test

import (
	"strings"
	"testing"

	"github.com/berth-registry/berth/server/config"
)

func TestRepairSources(t *testing.T) {
	l := mustLoad(t, "berth: {integrity: {repair_from: [{url: https://a.example.com, username: u, password: hush}, {url: \"http://127.0.0.1:5001\", username: u, password: hush}, {url: http://plain.example.com/, hosts: [b]}]}}\n")
	if got := l.Config.Berth.Integrity.RepairFrom; len(got) != 3 || got[0].Password.Reveal() != "hush" || got[2].Hosts[0] != "b" {
		t.Errorf("got %+v", got)
	}
	var dump strings.Builder
	if err := l.Dump(&dump, config.DumpOptions{}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(dump.String(), "hush") || !strings.Contains(dump.String(), "a.example.com") {
		t.Errorf("the dump shows a secret, or nothing:\n%s", dump.String())
	}
	for _, c := range []struct{ name, sources, want string }{
		{"no address", "{username: u, password: p}", "berth.integrity.repair_from[0] has no url"},
		{"no address but a host", "{url: registry.example.com}", "berth.integrity.repair_from[0].url"},
		{"a repository", "{url: https://a.example.com/team/app}", "the address of a registry alone"},
		{"a login in the address", "{url: \"https://u:hush@a.example.com\"}", "the address of a registry alone"},
		{"a name alone", "{url: https://a.example.com, username: u}", "username and password go together"},
		{"a password over http", "{url: http://a.example.com, username: u, password: p}", "must begin with https://"},
		{"one twice", "{url: https://a.example.com}, {url: https://a.example.com/}", "names the registry of berth.integrity.repair_from[0], too"},
		{"a key that is none", "{url: https://a.example.com, passwort: u}", "did you mean \"password\""},
	} {
		_, err := load("berth: {integrity: {repair_from: [" + c.sources + "]}}\n")
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v; want %q", c.name, err, c.want)
		}
	}
}
