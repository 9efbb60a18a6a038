package main_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/berth-registry/berth/internal/testkit"
)

var update = flag.Bool("update", false, "write the golden files anew")

// result is what a run of berthd left.
type result struct {
	code           int
	stdout, stderr string
}

// command is a run of the berthd that is shipped, in a folder of its own, with nothing in its environment that
// configures it but env.
type command struct {
	dir   string
	env   []string
	stdin string
}

func (c command) run(t *testing.T, args ...string) result {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testkit.BuildBerthd(t), args...)
	var out, err bytes.Buffer
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = c.dir, strings.NewReader(c.stdin), &out, &err
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.dir}, c.env...)
	code := 0
	if rerr := cmd.Run(); rerr != nil {
		exit := (*exec.ExitError)(nil)
		if !errors.As(rerr, &exit) {
			t.Fatal(rerr)
		}
		code = exit.ExitCode()
	}
	return result{code, out.String(), err.String()}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update, and read the change)\n got:\n%s\nwant:\n%s", file, got, want)
	}
}

func write(t *testing.T, file, content string) string {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// mistakes are the ones of which distribution makes a panic, a silence or a riddle.
const mistakes = `version: 0.1
storage:
  filesystm:
    rootdirectory: /srv/registry
  delete:
  enabled: true
storge:
  filesystem: {}
http:
  addr: :5000
  tlss:
    certificate: /x
auth:
  htpasswd:
    realm: here
`

func TestConfigCheck(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "config.yml"), mistakes)
	c := command{dir: dir}
	r := c.run(t, "config", "check", "config.yml")
	if r.code != 3 || r.stderr != "" {
		t.Errorf("exit code %d, stderr %q; want 3 and nothing", r.code, r.stderr)
	}
	golden(t, "mistakes.golden", r.stdout)

	// The same list from the daemon, which does not start, and as JSON.
	for _, args := range [][]string{{"config.yml"}, {"serve", "config.yml"}} {
		if s := c.run(t, args...); s.code != 3 || s.stderr != r.stdout || s.stdout != "" {
			t.Errorf("berthd %v: %+v", args, s)
		}
	}
	var problems []struct {
		File         string
		Line, Column int
		Message      string
	}
	j := c.run(t, "config", "check", "--format", "json", "config.yml")
	if err := json.Unmarshal([]byte(j.stdout), &problems); err != nil || j.code != 3 || len(problems) != strings.Count(r.stdout, "\n") {
		t.Errorf("%+v, %v", j, err)
	}
	for _, p := range problems {
		if p.File != "config.yml" || p.Line == 0 || p.Column == 0 || p.Message == "" {
			t.Errorf("%+v", p)
		}
	}

	write(t, filepath.Join(dir, "good.yml"), "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: "+filepath.Join(dir, "registry")+"\n")
	if r := c.run(t, "config", "check", "good.yml"); r.code != 0 || !strings.HasSuffix(r.stdout, "ok\n") {
		t.Errorf("%+v", r)
	}
	if r := c.run(t, "config", "check", "--format", "json", "good.yml"); r.code != 0 || !strings.HasPrefix(r.stdout, "[") {
		t.Errorf("%+v", r)
	}
	for name, c := range map[string]command{
		"a variable with a typo":  {dir: dir, env: []string{"BERTH_ANONYMUS=pull"}},
		"a value of another kind": {dir: dir, env: []string{"BERTH_ANONYMOUS=yes"}},
	} {
		if r := c.run(t, "config", "check"); r.code != 3 || !strings.Contains(r.stdout, "BERTH_ANONYM") {
			t.Errorf("%s: %+v", name, r)
		}
	}
	lenient := command{dir: dir, env: []string{"BERTH_ANONYMUS=pull", "BERTH_CONFIG_LENIENT=1"}}
	if r := lenient.run(t, "config", "check"); r.code != 0 || !strings.Contains(r.stdout, "BERTH_ANONYMUS") {
		t.Errorf("lenient: %+v", r)
	}
	if r := c.run(t, "config", "check", "absent.yml"); r.code != 3 || !strings.Contains(r.stdout, "absent.yml") {
		t.Errorf("%+v", r)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("checking left something: %v, %v", entries, err)
	}
}

// What print-defaults prints is a configuration, which gives exactly the defaults.
func TestConfigPrintDefaults(t *testing.T) {
	dir := t.TempDir()
	c := command{dir: dir}
	plain := c.run(t, "config", "print")
	for _, lang := range []string{"en", "zh-CN"} {
		r := c.run(t, "config", "print-defaults", "--lang", lang)
		if r.code != 0 || r.stderr != "" || (strings.ContainsRune(r.stdout, '的') != (lang == "zh-CN")) {
			t.Fatalf("%+v", r)
		}
		write(t, filepath.Join(dir, "defaults.yml"), r.stdout)
		if got := c.run(t, "config", "print", "defaults.yml"); got.code != 0 || got.stdout != plain.stdout || plain.stdout == "" {
			t.Errorf("%s: the printed file gives another configuration:\n%s\nwithout one:\n%s", lang, got.stdout+got.stderr, plain.stdout)
		}
		if r2 := (command{dir: dir, env: []string{"BERTH_LANG=" + lang}}).run(t, "config", "print-defaults"); r2.stdout != r.stdout {
			t.Errorf("BERTH_LANG=%s gives another text", lang)
		}
	}
	secret := command{dir: dir, env: []string{"BERTH_ADMIN_PASSWORD=moon-Wharf-12-kite", "BERTH_DATABASE=postgres://u:tide-Pool-3@127.0.0.1/x"}}
	for _, args := range [][]string{{"config", "print"}, {"config", "print", "--origin"}, {"config", "check"}} {
		if r := secret.run(t, args...); strings.Contains(r.stdout+r.stderr, "moon-Wharf") || strings.Contains(r.stdout+r.stderr, "tide-Pool") {
			t.Errorf("%v prints a secret: %+v", args, r)
		}
	}
}

func TestConfigSchemaEnvExplain(t *testing.T) {
	c := command{dir: t.TempDir()}
	r := c.run(t, "config", "schema")
	var schema struct {
		Schema     string `json:"$schema"`
		Properties map[string]any
	}
	if err := json.Unmarshal([]byte(r.stdout), &schema); err != nil || r.code != 0 || schema.Schema == "" || schema.Properties["storage"] == nil || schema.Properties["berth"] == nil {
		t.Errorf("%v: %.300s", err, r.stdout)
	}
	r = c.run(t, "config", "env")
	for _, name := range []string{"REGISTRY_HTTP_ADDR", "BERTH_ANONYMOUS", "BERTH_DATA", "BERTH_ADMIN_PASSWORD_FILE", "BERTH_DATABASE", "BERTH_LOG_FORMAT"} {
		if !strings.Contains("\n"+r.stdout, "\n"+name+" ") {
			t.Errorf("%s is not listed", name)
		}
	}
	for line := range strings.Lines(r.stdout) {
		if name, doc, _ := strings.Cut(strings.TrimSpace(line), " "); strings.TrimSpace(doc) == "" {
			t.Errorf("variable %s has no explanation", name)
		}
	}
	r = c.run(t, "config", "explain", "storage.delete.enabled")
	if r.code != 0 || !strings.HasPrefix(r.stdout, "storage.delete.enabled\n") || !strings.Contains(r.stdout, "default  true") || !strings.Contains(r.stdout, "REGISTRY_STORAGE_DELETE_ENABLED") {
		t.Errorf("%+v", r)
	}
	if r := c.run(t, "config", "explain", "storage.delete.enabld"); r.code == 0 || !strings.Contains(r.stderr, "storage.delete.enabld") {
		t.Errorf("%+v", r)
	}
}

func TestCert(t *testing.T) {
	dir := t.TempDir()
	c := command{dir: dir}
	if r := c.run(t, "cert", "show"); r.code != 1 || !strings.Contains(r.stderr, "berthd cert new") {
		t.Errorf("without a certificate: %+v", r)
	}
	type info struct {
		CA          bool     `json:"ca"`
		Fingerprint string   `json:"sha256"`
		Names       []string `json:"names"`
	}
	ask := func(args ...string) (ca, server info) {
		t.Helper()
		r := c.run(t, append(append([]string{"cert"}, args...), "--json")...)
		var infos []map[string]any
		if err := json.Unmarshal([]byte(r.stdout), &infos); err != nil || r.code != 0 || len(infos) != 2 {
			t.Fatalf("cert %v: %+v, %v", args, r, err)
		}
		for _, raw := range infos {
			b, _ := json.Marshal(raw)
			var i info
			if err := json.Unmarshal(b, &i); err != nil || i.Fingerprint == "" {
				t.Fatalf("%s, %v", b, err)
			}
			if i.CA {
				ca = i
			} else {
				server = i
			}
		}
		return ca, server
	}
	ca1, server1 := ask("new", "--host", "registry.example.com")
	if !strings.Contains(strings.Join(server1.Names, " "), "registry.example.com") {
		t.Errorf("names %v", server1.Names)
	}
	if ca, server := ask("show"); ca.Fingerprint != ca1.Fingerprint || server.Fingerprint != server1.Fingerprint {
		t.Error("show shows others than new made")
	}
	ca2, server2 := ask("renew", "--host", "registry.example.com")
	if ca2.Fingerprint != ca1.Fingerprint || server2.Fingerprint == server1.Fingerprint {
		t.Error("renew keeps the CA and makes a new certificate")
	}
	ca3, _ := ask("new", "--host", "registry.example.com")
	if ca3.Fingerprint == ca1.Fingerprint {
		t.Error("new keeps the CA")
	}
	files := filepath.Join(dir, "berth-data", "tls")
	if _, err := tls.LoadX509KeyPair(filepath.Join(files, "server.crt"), filepath.Join(files, "server.key")); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"ca.key", "server.key"} {
		if s, err := os.Stat(filepath.Join(files, name)); err != nil || s.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
	b, err := os.ReadFile(filepath.Join(files, "ca.crt"))
	if block, _ := pem.Decode(b); err != nil || block == nil || block.Type != "CERTIFICATE" {
		t.Errorf("%s, %v", b, err)
	}
	if r := c.run(t, "cert", "show"); r.code != 0 || !strings.Contains(r.stdout, "SHA256") || !strings.Contains(r.stdout, "registry.example.com") {
		t.Errorf("%+v", r)
	}
}

func TestVersionAndUsage(t *testing.T) {
	c := command{dir: t.TempDir()}
	if r := c.run(t, "version"); r.code != 0 || !strings.HasPrefix(r.stdout, "berthd ") || !strings.Contains(r.stdout, runtime.GOOS+"/"+runtime.GOARCH) || r.stderr != "" {
		t.Errorf("%+v", r)
	}
	help := c.run(t, "--help")
	for _, word := range []string{"serve", "cert", "htpasswd", "config", "healthcheck", "version", "--addr", "127.0.0.1:5000", "./berth-data"} {
		if !strings.Contains(help.stdout, word) {
			t.Errorf("--help does not say %s", word)
		}
	}
	for _, args := range [][]string{{"--nope"}, {"serve", "a", "b"}, {"config", "check", "--format", "xml"}, {"healthcheck", "a", "b"}, {"cert", "show", "--nope"}} {
		if r := c.run(t, args...); r.code != 1 || !strings.HasPrefix(r.stderr, "error: ") || strings.Contains(r.stderr, "goroutine") {
			t.Errorf("%v: %+v", args, r)
		}
	}
	if entries, err := os.ReadDir(c.dir); err != nil || len(entries) > 0 {
		t.Errorf("asking left something: %v, %v", entries, err)
	}
}

func TestHtpasswd(t *testing.T) {
	c := command{dir: t.TempDir(), stdin: "boat-Hook-4-ladder\n"}
	if r := c.run(t, "htpasswd", "add", "users", "alice"); r.code != 0 || r.stdout != "user alice added to users\n" {
		t.Errorf("%+v", r)
	}
	if r := c.run(t, "htpasswd", "verify", "users", "alice"); r.code != 0 {
		t.Errorf("%+v", r)
	}
	wrong := command{dir: c.dir, stdin: "another\n"}
	if r := wrong.run(t, "htpasswd", "verify", "users", "alice"); r.code != 1 || r.stderr != "error: password of alice is wrong\n" {
		t.Errorf("%+v", r)
	}
	if r := c.run(t, "htpasswd", "rm", "users", "alice"); r.code != 0 {
		t.Errorf("%+v", r)
	}
	b, err := os.ReadFile(filepath.Join(c.dir, "users"))
	if err != nil || strings.Contains(string(b), "alice") || strings.Contains(string(b), "boat-Hook") {
		t.Errorf("%s, %v", b, err)
	}
}

func TestHealthcheck(t *testing.T) {
	d := testkit.Start(t, testkit.Options{})
	c := command{dir: t.TempDir(), env: []string{"BERTH_ADDR=" + d.Addr}}
	for _, args := range [][]string{{"healthcheck"}, {"healthcheck", d.URL + "/readyz"}} {
		if r := c.run(t, args...); r.code != 0 || !strings.HasPrefix(r.stdout, "{") {
			t.Errorf("%v: %+v", args, r)
		}
	}
	if r := c.run(t, "healthcheck", d.URL+"/absent"); r.code != 1 || !strings.Contains(r.stderr, "404") {
		t.Errorf("%+v", r)
	}
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	if r := c.run(t, "healthcheck"); r.code != 1 || !strings.Contains(r.stderr, "does not answer") {
		t.Errorf("%+v", r)
	}
}
