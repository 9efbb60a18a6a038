package config_test

import (
	"strings"
	"testing"

	"github.com/berth-registry/berth/server/config"
)

const providers = `auth:
  ldap:
    - name: corp
      servers: [ldaps://dc1.example.com, ldap://dc2.example.com]
      binddn: cn=berth
      bindpassword: ${LDAP_SECRET}
      users: {base: "ou=people", filter: "(uid={name})"}
      groups: {base: "ou=groups", nested: walk}
      admins: [ops]
  oidc:
    - {name: keycloak, issuer: https://id.example.com/realms/main, clientid: berth, clientsecret: hush1, groups: {claim: groups}, required: [{claim: hd, values: [example.com]}], lifetime: 8h}
    - {name: dex, issuer: "http://127.0.0.1:5556", clientid: berth}
  mtls:
    cas: [/ca.pem]
    rules: [{cn: "*", account: "{cn}"}, {uri: "urn:ci:*", robot: builder}]
  spiffe:
    workloadapi: unix:///run/agent.sock
    rules: [{id: "spiffe://example.org/**", robot: mesh}]
`

func TestIdentityProviders(t *testing.T) {
	l, err := load(providers, "LDAP_SECRET=hush2")
	if err != nil {
		t.Fatal(err)
	}
	a := l.Config.Auth
	if a.LDAP[0].BindPassword.Reveal() != "hush2" || a.OIDC[0].ClientSecret.Reveal() != "hush1" || a.OIDC[1].Name != "dex" ||
		a.MTLS.Rules[1].Robot != "builder" || a.MTLS.Accounts != "adopt" || a.SPIFFE.Name != "spiffe" || !a.SPIFFE.IsOn() || a.OIDC[0].Required[0].Values[0] != "example.com" {
		t.Errorf("auth is %+v", a)
	}
	var dump strings.Builder
	if err := l.Dump(&dump, config.DumpOptions{}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(dump.String(), "hush") || !strings.Contains(dump.String(), "dc1.example.com") {
		t.Errorf("the dump shows a secret, or nothing:\n%s", dump.String())
	}
}

func TestIdentityProvidersRefused(t *testing.T) {
	for _, c := range []struct{ name, yaml, want string }{
		{"no servers", "auth: {ldap: [{name: a, users: {base: x}}]}", "auth.ldap[0] has no servers"},
		{"address", "auth: {ldap: [{name: a, users: {base: x}, servers: [dc1]}]}", "auth.ldap[0].servers[0] expects an address"},
		{"no base", "auth: {ldap: [{name: a, servers: [ldaps://x]}]}", "auth.ldap[0] has no users.base"},
		{"DN without password", "auth: {ldap: [{name: a, servers: [ldaps://x], users: {base: x}, binddn: cn=b}]}", "binddn and bindpassword go together"},
		{"admins without groups", "auth: {ldap: [{name: a, servers: [ldaps://x], users: {base: x}, admins: [ops]}]}", "there is no groups.base"},
		{"unknown key", "auth: {ldap: [{name: a, server: ldaps://x, users: {base: x}}]}", "did you mean \"servers\""},
		{"two of a name", "auth: {oidc: [{name: a, issuer: https://x, clientid: c}, {name: a, issuer: https://y, clientid: c}]}", "auth.oidc[1].name \"a\" is that of auth.oidc[0]"},
		{"name of ours", "auth: {oidc: [{name: local, issuer: https://x, clientid: c}]}", "is that of the accounts of berth"},
		{"name with a slash", "auth: {oidc: [{name: a/b, issuer: https://x, clientid: c}]}", "a name has lower-case letters"},
		{"plain issuer", "auth: {oidc: [{name: a, issuer: http://id.example.com, clientid: c}]}", "must begin with https://"},
		{"no client", "auth: {oidc: [{name: a, issuer: https://x}]}", "auth.oidc[0] has no clientid"},
		{"algorithm", "auth: {oidc: [{name: a, issuer: https://x, clientid: c, algorithms: [HS256]}]}", "\"HS256\" is not offered"},
		{"no rules", "auth: {mtls: {cas: [/ca.pem]}}", "has authorities and no rules"},
		{"rule for all", "auth: {mtls: {cas: [/ca.pem], rules: [{account: a}]}}", "fits every certificate"},
		{"rule for nobody", "auth: {mtls: {cas: [/ca.pem], rules: [{cn: a}]}}", "needs either an account or a robot"},
		{"rules alone", "auth: {mtls: {rules: [{cn: a, robot: r}]}}", "no authorities"},
		{"SPIFFE alone", "auth: {spiffe: {certificate: true}}", "auth.spiffe trusts nobody"},
		{"certificate without an agent", "auth: {spiffe: {bundles: [{trustdomain: x, file: /f}], certificate: true}}", "needs auth.spiffe.workloadapi"},
		{"SPIFFE ID", "auth: {spiffe: {workloadapi: \"unix:///x\", rules: [{id: x, robot: r}]}}", "is not written as spiffe://"},
	} {
		_, err := load(c.yaml + "\n")
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", c.name, err, c.want)
		}
	}
}
