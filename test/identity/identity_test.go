package identity_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

const workload = "spiffe://example.org/ns/ci/sa/builder"

// world is a berthd with every kind of identity provider.
type world struct {
	*testkit.Daemon
	base  string // https://127.0.0.1:port
	slapd *testkit.Slapd
	idp   *testkit.OIDCProvider
	agent *testkit.SPIFFEAgent
	alice string // DN
	roots *x509.CertPool
}

func start(t *testing.T) *world {
	t.Helper()
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(testkit.FreePort(t)))
	w := &world{base: "https://" + addr, slapd: testkit.StartSlapd(t), agent: testkit.StartSPIFFE(t)}
	w.slapd.Add(t, "dn: cn=reader,"+testkit.LDAPBase+"\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: reader\nuserPassword: reader-secret\n")
	w.alice = w.slapd.AddPerson(t, "alice", "alice-secret")
	w.slapd.SetGroup(t, "staff", w.alice)
	w.idp = testkit.StartOIDC(t, []testkit.OIDCClient{{
		"client_id": "berth", "client_secret": "berth-secret", "redirect_uris": []string{w.base + "/api/v1/login/idp/callback"},
		"response_types": []string{"code"}, "grant_types": []string{"authorization_code", "urn:ietf:params:oauth:grant-type:device_code"},
		"backchannel_logout_uri": "http://" + addr + "/api/v1/login/idp/logout", "backchannel_logout_session_required": true,
	}}, map[string]map[string]any{
		"sub-alice": {"preferred_username": "alice", "groups": []string{"staff"}, "email": "alice@example.com", "email_verified": true},
		"sub-carol": {"preferred_username": "carol", "groups": []string{}},
	})
	w.Daemon = testkit.Start(t, testkit.Options{Addr: addr, Config: fmt.Sprintf(`auth:
  ldap:
    - name: corp
      servers: [%q]
      ca: %q
      binddn: cn=reader,%s
      bindpassword: reader-secret
      users: {base: "ou=people,%s"}
      groups: {base: "ou=groups,%s", nested: walk}
      required: [staff]
      admins: [ops]
  oidc:
    - {name: idp, label: Example login, issuer: %q, clientid: berth, clientsecret: berth-secret, groups: {claim: groups}, accounts: adopt}
  spiffe:
    workloadapi: %q
    rules:
      - {id: %q, account: alice}
`, w.slapd.URL, w.slapd.CAFile, testkit.LDAPBase, testkit.LDAPBase, testkit.LDAPBase, w.idp.Issuer, w.agent.Addr, workload)})
	w.roots = x509.NewCertPool()
	ca, err := os.ReadFile(filepath.Join(w.Data, "tls", "ca.crt"))
	if err != nil || !w.roots.AppendCertsFromPEM(ca) {
		t.Fatalf("authority of berthd: %v", err)
	}
	return w
}

// browser is a client that keeps cookies and follows redirects.
func (w *world) browser(t *testing.T, certs ...tls.Certificate) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.roots, Certificates: certs}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Jar: jar, Transport: transport, Timeout: time.Minute}
}

func (w *world) get(t *testing.T, c *http.Client, path, name, password string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, w.base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if name != "" {
		r.SetBasicAuth(name, password)
	}
	return send(t, c, r)
}

func send(t *testing.T, c *http.Client, r *http.Request) (int, string) {
	t.Helper()
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func (w *world) post(t *testing.T, c *http.Client, path string, form url.Values) (int, string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, w.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return send(t, c, r)
}

// subject is whom a token of /token stands for.
func subject(t *testing.T, answer string) string {
	t.Helper()
	var a struct{ Token string }
	var c struct{ Sub string }
	if err := json.Unmarshal([]byte(answer), &a); err != nil || strings.Count(a.Token, ".") != 2 {
		t.Fatalf("no token in %s", answer)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(a.Token, ".")[1])
	if err != nil || json.Unmarshal(payload, &c) != nil {
		t.Fatalf("token of %s: %v", answer, err)
	}
	return c.Sub
}

func podman(t *testing.T, w *world, name, password string) error {
	t.Helper()
	if _, err := exec.LookPath("podman"); err != nil {
		testkit.Missing(t, "podman is not here: test/setup/setup.sh")
	}
	cmd := exec.Command("podman", "login", "--tls-verify=false", "--authfile", filepath.Join(t.TempDir(), "auth.json"), "-u", name, "--password-stdin", w.Addr)
	cmd.Stdin = strings.NewReader(password)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// One person comes by password, browser, device and certificate, and is one account.
func TestOneAccountOfManyIdentities(t *testing.T) {
	w := start(t)
	c := w.browser(t)

	// A password of the directory, as podman sends it. Wrong and empty ones are refused.
	if err := podman(t, w, "alice", "alice-secret"); err != nil {
		t.Fatalf("podman login with a password of the directory: %v", err)
	}
	if err := podman(t, w, "alice", "wrong"); err == nil {
		t.Error("podman login with a wrong password")
	}
	for _, password := range []string{"", "wrong", "*"} {
		if status, body := w.get(t, c, "/token?service=berth", "alice", password); status != http.StatusUnauthorized {
			t.Errorf("password %q: %d %s", password, status, body)
		}
	}

	// The same person by browser.
	if status, body := w.get(t, c, "/api/v1/login", "", ""); status != http.StatusOK || !strings.Contains(body, `"label":"Example login"`) {
		t.Errorf("ways to log in: %d %s", status, body)
	}
	resp, body := w.idp.Browse(t, c, w.base+"/api/v1/login/idp/start?return=/v2/", "sub-alice", nil)
	if resp.Request.URL.String() != w.base+"/v2/" || session(c, w) == "" {
		t.Fatalf("login by browser ended at %s with %d %s", resp.Request.URL, resp.StatusCode, body)
	}

	// By a device that shows a code; the token is a password for podman.
	if token := w.device(t, "sub-alice"); token == "" {
		t.Error("no token of the device flow")
	} else if err := podman(t, w, "alice", token); err != nil {
		t.Errorf("podman login with the token of the device flow: %v", err)
	}

	// The same by berth, which waits for the browser.
	w.berth(t, "sub-alice", "alice")

	// By the certificate of a workload, without any login.
	client := w.browser(t, w.agent.Issue(t, workload, nil))
	if status, body := w.get(t, client, "/v2/", "", ""); status != http.StatusOK {
		t.Errorf("ping with a certificate: %d %s", status, body)
	}
	status, body := w.get(t, client, "/token?service=berth&scope=repository:alice/app:pull,push", "", "")
	if status != http.StatusOK || subject(t, body) != "alice" {
		t.Errorf("token by certificate: %d %s", status, body)
	}
	if status, body := w.get(t, w.browser(t), "/v2/", "", ""); status != http.StatusUnauthorized {
		t.Errorf("ping without a certificate: %d %s", status, body)
	}
	if status, body := w.get(t, w.browser(t, testkit.StartSPIFFE(t).Issue(t, workload, nil)), "/v2/", "", ""); status != http.StatusUnauthorized {
		t.Errorf("ping with a stranger's certificate: %d %s", status, body)
	}
	old := w.agent.Issue(t, workload, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	if status, body := w.get(t, w.browser(t, old), "/v2/", "", ""); status != http.StatusUnauthorized {
		t.Errorf("ping with an old certificate: %d %s", status, body)
	}

	w.holds(t, "links of one account", "SELECT count(DISTINCT account_id) || ' ' || group_concat(provider) FROM (SELECT * FROM account_link ORDER BY provider)", "1 corp,idp,spiffe")

	// The provider ends the session, back-channel. It knows the browser by its own cookies.
	w.holds(t, "session of the browser", "SELECT count(*) FROM login_session", "1")
	w.idp.Browse(t, c, w.idp.Issuer+"/session/end", "", map[string]string{"logout": "yes"})
	w.holds(t, "session after back-channel logout", "SELECT count(*) FROM login_session", "0")
	if log := w.Log(); strings.Contains(log, "alice-secret") || strings.Contains(log, "reader-secret") || strings.Contains(log, "berth-secret") {
		t.Error("a secret is in the log")
	}
}

// holds waits until the database gives the answer.
func (w *world) holds(t *testing.T, what, query, want string) {
	t.Helper()
	var rows [][]string
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if rows, err = testkit.SQLite(filepath.Join(w.Data, "berth.db"), query); err == nil && len(rows) == 1 && rows[0][0] == want {
			return
		}
	}
	t.Errorf("%s: %q, %v; want %q", what, rows, err, want)
}

// session is the cookie of a browser's session.
func session(c *http.Client, w *world) string {
	u, err := url.Parse(w.base)
	if err != nil {
		return ""
	}
	for _, one := range c.Jar.Cookies(u) {
		if one.Name == "__Host-berth" {
			return one.Value
		}
	}
	return ""
}

// device goes through the device flow as a person with a browser elsewhere, and returns the token.
func (w *world) device(t *testing.T, account string) string {
	t.Helper()
	c := w.browser(t)
	status, body := w.post(t, c, "/api/v1/login/idp/device", nil)
	var d struct {
		Code     string `json:"device_code"`
		UserCode string `json:"user_code"`
		URL      string `json:"verification_uri"`
	}
	if err := json.Unmarshal([]byte(body), &d); status != http.StatusOK || err != nil || d.UserCode == "" {
		t.Fatalf("device login: %d %s", status, body)
	}
	form := url.Values{"device_code": {d.Code}}
	if status, body := w.post(t, c, "/api/v1/login/idp/device/poll", form); status != http.StatusAccepted {
		t.Errorf("poll before anybody has answered: %d %s", status, body)
	}
	w.idp.Browse(t, w.browser(t), d.URL, account, map[string]string{"user_code": d.UserCode})
	status, body = w.post(t, c, "/api/v1/login/idp/device/poll", form)
	var a struct{ Account, Token string }
	if err := json.Unmarshal([]byte(body), &a); status != http.StatusOK || err != nil {
		t.Fatalf("poll: %d %s", status, body)
	}
	if status, body := w.post(t, c, "/api/v1/login/idp/device/poll", form); status == http.StatusOK {
		t.Errorf("a device code is good twice: %s", body)
	}
	return a.Token
}

// What does not come from the login that the browser has begun is refused.
func TestBrowserAttacks(t *testing.T) {
	w := start(t)
	c := w.browser(t)
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, target := range []string{
		"https://evil.example.com/", "//evil.example.com", "/\\evil.example.com", "\\\\evil.example.com", "javascript:alert(1)", "/\t/evil.example.com", "ui", "/%0a/..//evil\n",
	} {
		if status, body := w.get(t, c, "/api/v1/login/idp/start?return="+url.QueryEscape(target), "", ""); status != http.StatusBadRequest {
			t.Errorf("return to %q: %d %s", target, status, body)
		}
	}
	if status, body := w.get(t, c, "/api/v1/login/nobody/start", "", ""); status != http.StatusNotFound {
		t.Errorf("unknown provider: %d %s", status, body)
	}
	if status, body := w.get(t, c, "/api/v1/login/idp/callback?state=x&code=y", "", ""); status != http.StatusForbidden {
		t.Errorf("callback that nobody has begun: %d %s", status, body)
	}
	if status, body := w.get(t, c, "/api/v1/login/idp/start", "", ""); status != http.StatusSeeOther {
		t.Fatalf("start: %d %s", status, body)
	}
	if status, body := w.get(t, c, "/api/v1/login/idp/callback?state=another&code=y", "", ""); status != http.StatusForbidden {
		t.Errorf("callback with another state: %d %s", status, body)
	}
	// A login that was finished in another browser: the address alone is worth nothing.
	victim, attacker := w.browser(t), w.browser(t)
	var callback string
	attacker.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), w.base+"/api/v1/login/idp/callback") {
			callback = r.URL.String()
			return http.ErrUseLastResponse
		}
		return nil
	}
	w.idp.Browse(t, attacker, w.base+"/api/v1/login/idp/start", "sub-carol", nil)
	if callback == "" {
		t.Fatal("the provider did not send the browser back")
	}
	if status, body := w.get(t, victim, strings.TrimPrefix(callback, w.base), "", ""); status != http.StatusForbidden || session(victim, w) != "" {
		t.Errorf("an attacker's login in another browser: %d %s", status, body)
	}
	for _, token := range []string{"", "a.b.c", "eyJhbGciOiJub25lIn0.e30."} {
		if status, body := w.post(t, c, "/api/v1/login/idp/logout", url.Values{"logout_token": {token}}); status != http.StatusBadRequest {
			t.Errorf("logout token %q: %d %s", token, status, body)
		}
	}
}

// A right that a group of the directory gave is gone when the membership is, without a restart and without a new login.
func TestRightGoesWithTheGroup(t *testing.T) {
	w := start(t)
	c := w.browser(t)
	w.slapd.SetGroup(t, "ops", w.alice)
	if status, body := w.get(t, c, "/api/v1/jobs", "alice", "alice-secret"); status != http.StatusOK {
		t.Fatalf("an administrator by group: %d %s", status, body)
	}
	w.slapd.SetGroup(t, "ops")
	gone := time.Now()
	for {
		status, _ := w.get(t, c, "/api/v1/jobs", "alice", "alice-secret")
		if status == http.StatusForbidden || status == http.StatusNotFound {
			break
		}
		if time.Since(gone) > 3*time.Minute {
			t.Fatalf("the right is still there after %s: %d", time.Since(gone), status)
		}
		time.Sleep(time.Second)
	}
	t.Logf("the right was gone after %s", time.Since(gone).Round(time.Second))
	if status, body := w.get(t, c, "/v2/", "alice", "alice-secret"); status != http.StatusOK {
		t.Errorf("who is in the required group logs in as before: %d %s", status, body)
	}
	// The directory away: nobody new comes in, and what is here goes on.
	w.slapd.Stop()
	if status, body := w.get(t, c, "/token?service=berth", "dave", "x"); status != http.StatusServiceUnavailable {
		t.Errorf("a stranger while the directory is away: %d %s", status, body)
	}
	w.slapd.Start(t)
}

// berthd serves the certificate that the SPIFFE agent gives, and the next one without a restart.
func TestCertificateOfTheAgent(t *testing.T) {
	agent := testkit.StartSPIFFE(t)
	d := testkit.Start(t, testkit.Options{Config: fmt.Sprintf("auth: {spiffe: {workloadapi: %q, certificate: true}}\n", agent.Addr)})
	leaf := func() *x509.Certificate {
		t.Helper()
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(agent.Bundle())
		c, err := tls.Dial("tcp", d.Addr, &tls.Config{RootCAs: roots})
		if err != nil {
			return nil
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0]
	}
	first := leaf()
	if first == nil || len(first.URIs) != 1 || first.URIs[0].String() != testkit.SPIFFESelf {
		t.Fatalf("certificate of berthd: %+v", first)
	}
	agent.Rotate(t)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if next := leaf(); next != nil && !next.Equal(first) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the new certificate is not served")
		}
	}
}
