package main_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

const guideIssuer = "https://token.actions.githubusercontent.com"

// TestAutomationGuide runs the lines of docs/guide/automation.md, in both languages, against a berthd, with an issuer whose keys
// are ours in the place of GitHub.
func TestAutomationGuide(t *testing.T) {
	for _, program := range []string{"bash", "curl", "jq"} {
		if _, err := exec.LookPath(program); err != nil {
			testkit.Missing(t, "%s is not installed (run test/setup/setup.sh)", program)
		}
	}
	for _, file := range []string{"guide/automation.md", "zh-CN/automation.md"} {
		t.Run(file, func(t *testing.T) { runGuide(t, file) })
	}
}

func runGuide(t *testing.T, file string) {
	const password = "harbour-Wall-7-lantern"
	berthd := testkit.Start(t, testkit.Options{Env: []string{"BERTH_ADMIN_PASSWORD=" + password}})
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", filepath.FromSlash(file)))
	if err != nil {
		t.Fatal(err)
	}
	keys, jwt := signedByGuide(t)
	var script strings.Builder
	script.WriteString("set -euo pipefail\n")
	for _, block := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllSubmatch(text, -1) {
		script.Write(block[1])
	}
	lines := strings.ReplaceAll(script.String(), "registry=https://registry.example.com", "registry="+berthd.URL)
	trusted := strings.Replace(lines, "issuer: "+guideIssuer+"\n", "issuer: "+guideIssuer+"\n      jwks: "+keys+"\n", 1)
	if trusted == lines || strings.Count(lines, "\n") < 30 {
		t.Fatalf("the guide has not the lines that are expected of it:\n%s", lines)
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "bash", "-c", trusted)
	cmd.Dir, cmd.Env = dir, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "PASSWORD=" + password, "JWT=" + jwt}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	if !strings.Contains(string(out), "update project octo") {
		t.Errorf("the plan does not name the change:\n%s", out)
	}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(text))
	}
	if got := read("refused.status"); got != "412" {
		t.Errorf("a change of what was not read is answered with %s", got)
	}
	admin := basic("admin", password)
	for path, want := range map[string]string{"projects/octo": "what octo ships", "projects/nightly": "built at night", "projects/octo/robots/ci-app": "builds of octo/app"} {
		if status, body := ask(t, http.MethodGet, berthd.URL+"/api/v1/"+path, admin); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s; want %q", path, status, body, want)
		}
	}
	for _, one := range []struct {
		name, password, repository string
		may                        bool
	}{
		{"ci-app", read("ci-app.secret"), "octo/app-one", true},
		{"ci-app", read("ci-app.secret"), "octo/other", false},
		{"github", jwt, "octo/app", true},
		{"github", jwt, "octo/other", false},
	} {
		got, body := ask(t, http.MethodPost, berthd.URL+"/v2/"+one.repository+"/blobs/uploads/", basic(one.name, one.password))
		refused := got == http.StatusUnauthorized || got == http.StatusForbidden
		if one.may && got != http.StatusAccepted || !one.may && !refused {
			t.Errorf("push of %s to %s: %d %s", one.name, one.repository, got, body)
		}
	}
}

// signedByGuide is a key set, and what a build in GitHub Actions shows, signed with its key.
func signedByGuide(t *testing.T) (keys, jwt string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	part := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	now := time.Now()
	signed := part(map[string]string{"alg": "EdDSA", "typ": "JWT", "kid": "build"}) + "." + part(map[string]any{
		"iss": guideIssuer, "aud": "https://registry.example.com", "sub": "repo:octo/app:ref:refs/heads/main",
		"repository": "octo/app", "ref": "refs/heads/main", "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	})
	x := base64.RawURLEncoding.EncodeToString(public)
	return `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"build","x":"` + x + `"}]}`, signed + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(private, []byte(signed)))
}
