package sync_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/Masterminds/semver/v3"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/sync"
)

func regexps(all ...*regexp.Regexp) []*regexp.Regexp { return all }

func constraints(all ...semver.Constraints) []semver.Constraints { return all }

const skopeoFile = `
registry.example.com:
  images:
    busybox: []
    redis: ["1.0", "sha256:0000000000000000000000000000000011111111111111111111111111111111"]
  images-by-tag-regex:
    nginx: ^1\.13\.[12]-alpine-perl$
  credentials: {username: john, password: "this is a secret"}
  tls-verify: true
  cert-dir: /home/john/certs
docker.io:
  images-by-semver:
    alpine: ">= 3.12.0"
`

func TestParseSkopeo(t *testing.T) {
	c, err := sync.ParseSkopeo([]byte(skopeoFile))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range c.Rules {
		got = append(got, r.From)
	}
	if s := strings.Join(got, " "); s != "docker.io/alpine registry.example.com/busybox registry.example.com/redis registry.example.com/nginx" {
		t.Error(s)
	}
	if len(c.Rules[2].Select.Refs) != 2 || c.Rules[2].Select.Refs[1].Digest.IsZero() || len(c.Rules[3].Select.Allow) != 1 || len(c.Rules[0].Select.Versions) != 1 {
		t.Errorf("%+v", c.Rules)
	}
	if len(c.Logins) != 1 || c.Logins[0].User != "john" || c.Logins[0].CertDir != "/home/john/certs" || c.Logins[0].Insecure {
		t.Errorf("%+v", c.Logins)
	}
	for _, bad := range []string{"", "x", "[]", "r.example.com: {image: {}}", "r.example.com: {}", "r.example.com: {images: {A: []}}",
		"r.example.com: {images: {a: ['-x']}}", "r.example.com: {images-by-tag-regex: {a: '('}}", "r.example.com: {images-by-semver: {a: 'soon'}}"} {
		if _, err := sync.ParseSkopeo([]byte(bad)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

const regsyncText = `
version: 1
creds:
  - registry: localhost:5000
    tls: disabled
    user: '{{env "NAME"}}'
    pass: x
defaults:
  ratelimit: {min: 100, retry: 15m}
  parallel: 2
  interval: 60m
  backup: no-template
x-note: anything
sync:
  - source: busybox:latest
    target: localhost:5000/library/busybox:stable
    type: image
  - source: alpine
    target: localhost:5000/library/alpine
    type: repository
    tags: {allow: ["3", "3\\.\\d+"], deny: ["3\\.0"], semverRange: [">=3.1"]}
    platforms: [linux/amd64, linux/arm64/v8]
    referrers: false
`

func TestParseRegsync(t *testing.T) {
	text := strings.Replace(regsyncText, "  backup: no-template\n", "", 1)
	c, err := sync.ParseRegsync([]byte(text), func(name string) string { return "value of " + name })
	if err != nil {
		t.Fatal(err)
	}
	if c.Parallel != 2 || len(c.Logins) != 1 || !c.Logins[0].Plain || c.Logins[0].User != "value of NAME" || len(c.Warnings) != 1 {
		t.Errorf("%+v", c)
	}
	image, repo := c.Rules[0], c.Rules[1]
	if image.From != "busybox" || image.To != "localhost:5000/library/busybox" || image.Rename != "stable" || image.Select.Refs[0].Tag != "latest" || image.Options.Least != 100 {
		t.Errorf("%+v", image)
	}
	if len(repo.Select.Allow) != 2 || len(repo.Select.Deny) != 1 || len(repo.Select.Versions) != 1 || len(repo.Options.Platforms) != 2 || repo.Options.Referrers.None ||
		len(repo.Options.Referrers.Types) != 1 {
		t.Errorf("%+v", repo)
	}
	if c, err := sync.ParseRegsync([]byte("version: 1\nsync: [{source: a, target: b, digestTags: false}]"), nil); err != nil || !c.Rules[0].Options.Referrers.NoTags || c.Rules[0].Options.Referrers.None {
		t.Errorf("%+v, %v", c, err)
	}
	all := `[application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json]`
	if c, err := sync.ParseRegsync([]byte("version: 1\nsync: [{source: a, target: b, type: repository, includeExternal: false, mediaTypes: "+all+"}]"), nil); err != nil || len(c.Warnings) > 0 {
		t.Errorf("what is done anyway: %+v, %v", c, err)
	}
	for _, bad := range []string{regsyncText, "version: 2", "version: 1", "version: 1\nsync: [{source: a, target: b, type: x}]", "version: 1\nsync: [{source: a}]",
		"version: 1\nsync: [{source: a, target: b, extra: 1}]",
		"version: 1\ndefaults: {includeExternal: true}\nsync: [{source: a, target: b, type: repository}]", "version: 1\nsync: [{source: a, target: b, type: repository, mediaTypes: [application/vnd.oci.image.index.v1+json]}]", `version: 1{{env}}`, `version: 1{{file "x"}}`} {
		if _, err := sync.ParseRegsync([]byte(bad), nil); !fault.Is(err, fault.Invalid) {
			t.Errorf("%.60q: %v", bad, err)
		}
	}
}

func TestSplit(t *testing.T) {
	for in, want := range map[string]string{"alpine": "docker.io library/alpine", "team/app": "docker.io team/app", "localhost/a": "localhost a", "h:5000/a/b": "h:5000 a/b",
		"quay.io/x/y": "quay.io x/y", "docker.io/alpine": "docker.io library/alpine"} {
		host, name, err := sync.Split(in)
		if err != nil || host+" "+name.String() != want {
			t.Errorf("%s: %s %s, %v", in, host, name, err)
		}
	}
	if _, _, err := sync.Split("h:5000/A"); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
}
