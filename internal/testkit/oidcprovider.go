package testkit

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

//go:embed oidcprovider.mjs
var oidcProviderScript []byte

// OIDCProvider is the certified OpenID Connect provider of npm's oidc-provider, on 127.0.0.1, with accounts that the test
// sets: any password is right.
type OIDCProvider struct {
	Issuer string
}

// OIDCClient is a client as dynamic registration names its properties (client_id, client_secret, redirect_uris …).
type OIDCClient map[string]any

// StartOIDC starts a provider that ends with the test. accounts are claims by subject. Without Node.js or the package,
// which test/setup/setup.sh installs, the test is skipped, or fails where the package comment says so.
func StartOIDC(t testing.TB, clients []OIDCClient, accounts map[string]map[string]any) *OIDCProvider {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		Missing(t, "testkit: no node here: test/setup/setup.sh installs it")
	}
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(npmPeers(t), "node_modules"), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatalf("testkit: %v", err)
	}
	script := filepath.Join(dir, "provider.mjs")
	if err := os.WriteFile(script, oidcProviderScript, 0o600); err != nil {
		t.Fatalf("testkit: %v", err)
	}
	config, err := json.Marshal(map[string]any{"port": FreePort(t), "clients": clients, "accounts": accounts})
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	cmd := exec.Command(node, script)
	cmd.SysProcAttr = childAttr()
	log := &tail{}
	cmd.Stderr = log
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		t.Fatalf("testkit: OpenID provider: %v, %v", err1, err2)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("testkit: OpenID provider: %v", err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("log of the OpenID provider:\n%s", log.String())
		}
	})
	if _, err := in.Write(append(config, '\n')); err != nil {
		t.Fatalf("testkit: OpenID provider: %v\n%s", err, log.String())
	}
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	if err != nil {
		t.Fatalf("testkit: OpenID provider does not start: %v\n%s", err, log.String())
	}
	go func() { _, _ = io.Copy(io.Discard, lines) }() // it ends with the process
	return &OIDCProvider{Issuer: strings.TrimSpace(line)}
}

// npmPeers is where test/setup/setup.sh puts the packages of test/setup/npm, by the hash of their lock.
func npmPeers(t testing.TB) string {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	lock, err := os.ReadFile(filepath.Join(root, "test", "setup", "npm", "package-lock.json"))
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	sum := sha256.Sum256(lock)
	dir := filepath.Join(peerCache(t), "npm", hex.EncodeToString(sum[:])[:16])
	if _, err := os.Stat(filepath.Join(dir, "node_modules")); err != nil {
		Missing(t, "testkit: the packages of npm are not here: test/setup/setup.sh")
	}
	return dir
}

// SetAccounts replaces the accounts.
func (p *OIDCProvider) SetAccounts(t testing.TB, accounts map[string]map[string]any) {
	t.Helper()
	body, err := json.Marshal(accounts)
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	r, err := http.NewRequest(http.MethodPut, p.Issuer+"/test/accounts", bytes.NewReader(body))
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	_ = resp.Body.Close()
}

var (
	formAction = regexp.MustCompile(`(?s)<form[^>]*action="([^"]*)"`)
	formHidden = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)"`)
)

// Browse does with an address what a person with a browser does: it follows it, fills in the provider's forms as the
// account (fields has more, such as user_code), and returns the first answer that is no form of the provider, with its
// body read. The client needs a cookie jar.
func (p *OIDCProvider) Browse(t testing.TB, client *http.Client, address, account string, fields map[string]string) (*http.Response, string) {
	t.Helper()
	resp, err := client.Get(address)
	for range 12 {
		if err != nil {
			t.Fatalf("testkit: browser: %v", err)
		}
		body, readErr := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if readErr != nil {
			t.Fatalf("testkit: browser: %v", readErr)
		}
		action := formAction.FindSubmatch(body)
		if !strings.HasPrefix(resp.Request.URL.String(), p.Issuer) || action == nil {
			return resp, string(body)
		}
		form := url.Values{}
		for _, field := range formHidden.FindAllSubmatch(body, -1) {
			form.Set(string(field[1]), html.UnescapeString(string(field[2])))
		}
		text := string(body)
		if strings.Contains(text, `name="login"`) {
			form.Set("login", account)
			form.Set("password", "any")
		}
		for name, value := range fields {
			if strings.Contains(text, `name="`+name+`"`) {
				form.Set(name, value)
			}
		}
		if strings.Contains(text, `name="confirm"`) {
			form.Set("confirm", "yes")
		}
		to, parseErr := resp.Request.URL.Parse(html.UnescapeString(string(action[1])))
		if parseErr != nil {
			t.Fatalf("testkit: browser: %v", parseErr)
		}
		resp, err = client.PostForm(to.String(), form)
	}
	t.Fatal("testkit: the provider shows one form after another")
	return nil, ""
}
