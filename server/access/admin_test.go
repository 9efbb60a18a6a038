package access_test

import (
	"testing"

	"github.com/berth-registry/berth/server/access"
	"github.com/berth-registry/berth/server/identity"
)

// TestCheckAdmin has a line for every caller of the decision table; no level of the configuration makes an
// administrator.
func TestCheckAdmin(t *testing.T) {
	want := map[string]string{
		"nobody": "denied", "nobody, said to be admin": "denied", "unknown kind": "denied",
		"anonymous": "login", "anonymous, said to be admin": "login", "anonymous with a token": "login", "anonymous with an empty token": "login",
		"user": "denied", "user with a token": "denied", "user with a pull token": "denied", "user with an empty token": "denied",
		"admin": "ok", "admin with a pull token": "scope", "system": "ok", "local": "ok",
	}
	for _, level := range []access.Level{access.None, access.Pull, access.Push, access.Delete} {
		point := access.New(access.Options{Projects: projects{}, Anonymous: level, Users: level})
		for _, who := range principals() {
			if got := cell(point.CheckAdmin(identity.With(t.Context(), who.p))); got != want[who.name] {
				t.Errorf("level %d, %s: %s, want %s", level, who.name, got, want[who.name])
			}
		}
		if got := cell(point.CheckAdmin(t.Context())); got != "denied" {
			t.Errorf("a context without a principal: %s", got)
		}
	}
	robot := identity.Principal{Kind: identity.Robot, Name: "ci", Admin: true, Grants: &identity.Grants{List: []identity.Grant{{Repository: "*", Verbs: []identity.Verb{"*"}}}}}
	if got := cell(access.New(access.Options{Projects: projects{}}).CheckAdmin(identity.With(t.Context(), robot))); got != "scope" {
		t.Errorf("a robot whose token says everything: %s", got)
	}
}
