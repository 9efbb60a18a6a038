package config_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-registry/berth/server/config"
)

// files is a file system for LoadOptions.
type files map[string]string

func (f files) read(name string) ([]byte, error) {
	content, ok := f[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return []byte(content), nil
}

// load reads content as config.yml, with an environment.
func load(content string, env ...string) (*config.Loaded, error) {
	return config.Load(config.LoadOptions{File: "config.yml", Env: env, ReadFile: files{"config.yml": content}.read})
}

func mustLoad(t *testing.T, content string, env ...string) *config.Loaded {
	t.Helper()
	l, err := load(content, env...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestStrict is the list of ux.md §D3 and what belongs beside it: what a file says wrong, and the
// whole answer.
func TestStrict(t *testing.T) {
	tests := []struct{ name, file, want string }{
		{"storage driver", "version: 0.1\nstorage:\n  filesystm:\n    rootdirectory: /x\n",
			`config.yml:3:3: unknown storage driver "filesystm"; did you mean "filesystem"? (filesystem, s3, gcs, azure, inmemory)`},
		{"storage driver nothing like", "storage:\n  zfs: {}\n",
			`config.yml:2:3: unknown storage driver "zfs" (filesystem, s3, gcs, azure, inmemory)`},
		{"driver in short form", "storage: inmemry\n",
			`config.yml:1:10: unknown storage driver "inmemry"; did you mean "inmemory"? (filesystem, s3, gcs, azure, inmemory)`},
		{"beside a driver", "storage:\n  filesystem: {}\n  delte: {enabled: true}\n",
			`config.yml:3:3: unknown key "delte" in storage; did you mean "delete"?`},
		{"key of a driver", "storage:\n  filesystem:\n    rootdirctory: /x\n",
			`config.yml:3:5: unknown key "rootdirctory" in storage.filesystem; did you mean "rootdirectory"?`},
		{"tls", "http:\n  tlss:\n    certificate: x\n",
			`config.yml:2:3: unknown key "tlss" in http; did you mean "tls"?`},
		{"top", "version: 0.1\nstorge:\n  filesystem: {}\n",
			`config.yml:2:1: unknown key "storge"; did you mean "storage"?`},
		{"lost indent", "storage:\n  filesystem: {}\n  delete:\n  enabled: true\n",
			`config.yml:4:3: unknown key "enabled" in storage; it belongs to storage.delete, indented below it: expects delete: {enabled: …}`},
		{"section is a word", "storage:\n  delete: true\n",
			`config.yml:2:11: storage.delete expects a section, its keys indented on the next lines: enabled; got "true"`},
		{"key above its section", "storage:\n  rootdirectory: /x\n",
			`config.yml:2:3: unknown storage driver "rootdirectory" (filesystem, s3, gcs, azure, inmemory)`},
		{"htpasswd without path", "auth:\n  htpasswd:\n    realm: x\n",
			`config.yml:2:3: auth.htpasswd.path: must be set`},
		{"two drivers", "storage:\n  filesystem: {}\n  inmemory:\n",
			`config.yml:3:3: storage names two: filesystem and inmemory; keep one storage driver (filesystem, s3, gcs, azure, inmemory)`},
		{"key twice", "http:\n  addr: :1\n  addr: :2\n",
			`config.yml:3:3: key "addr" is there twice; the first is in line 2`},
		{"bool", "http: {relativeurls: maybe}\n",
			`config.yml:1:22: http.relativeurls expects true or false, got "maybe"`},
		{"duration", "http:\n  draintimeout: soon\n",
			`config.yml:2:17: http.draintimeout expects a duration such as 30s, 5m or 24h, got "soon"`},
		{"bytes", "berth:\n  limits:\n    manifest_bytes: 4 apples\n",
			`config.yml:3:21: berth.limits.manifest_bytes expects a number of bytes such as 4MiB or 4194304, got "4 apples"`},
		{"number", "catalog: {maxentries: many}\n",
			`config.yml:1:23: catalog.maxentries expects a whole number, got "many"`},
		{"not positive", "catalog: {maxentries: 0}\n",
			`config.yml:1:23: catalog.maxentries: expects more than 0, got 0`},
		{"list", "http:\n  trustedproxies: 10.0.0.0/8\n",
			`config.yml:2:19: http.trustedproxies expects a list, such as [a, b]; got "10.0.0.0/8"`},
		{"network", "http:\n  trustedproxies: [10.0.0.0/8, office]\n",
			`config.yml:2:32: http.trustedproxies[1]: expects an address or a network such as 10.0.0.0/8, got "office"`},
		{"word", "log:\n  level: verbos\n",
			`config.yml:2:10: log.level: unknown value "verbos" (error, warn, info, debug)`},
		{"word nearly", "log: {level: inof}\n",
			`config.yml:1:14: log.level: unknown value "inof"; did you mean "info"? (error, warn, info, debug)`},
		{"port alone", "http: {addr: 5000}\n",
			`config.yml:1:14: http.addr: expects host:port, got "5000"; for every address of this machine write ":5000"`},
		{"port too high", "http: {addr: \":99999\"}\n",
			`config.yml:1:14: http.addr: expects a port from 0 to 65535, got "99999"`},
		{"cipher", "http: {tls: {ciphersuites: [TLS_AES_128_GCM_SHA265]}}\n",
			`config.yml:1:29: http.tls.ciphersuites[0]: unknown cipher suite "TLS_AES_128_GCM_SHA265"; did you mean "TLS_AES_128_GCM_SHA256"?`},
		{"certificate without key", "http:\n  tls:\n    certificate: /x.crt\n",
			`config.yml:3:18: http.tls.certificate is set, but http.tls.key is not; both are needed, or neither`},
		{"one port twice", "http:\n  addr: :5000\n  debug: {addr: \"127.0.0.1:5000\"}\n",
			`config.yml:3:17: http.debug.addr "127.0.0.1:5000" has the port of http.addr ":5000"; give it another one`},
		{"version", "version: 0.2\n",
			`config.yml:1:10: version: unknown version "0.2" of the grammar; this program reads 0.1`},
		{"tokens too short", "berth: {token: {lifetime: 30s}}\n",
			`config.yml:1:27: berth.token.lifetime: expects 60s or more, got 30s`},
		{"client certificates of anyone", "http:\n  tls: {clientauth: require-any-client-cert}\n",
			`config.yml:2:21: http.tls.clientauth: require-any-client-cert accepts certificates of anyone and is not supported in this version; use verify-client-cert-if-given or require-and-verify-client-cert`},
		{"database", "berth:\n  database:\n    url: mysql://root:hunter2@db/x\n",
			`config.yml:3:10: berth.database.url: expects postgres://user:password@host:port/name, or nothing for SQLite in the data directory`},
		{"no YAML", "http:\n  addr: [\n",
			`config.yml:2:1: not readable as YAML: did not find expected node content`},
		{"tab", "http:\n\taddr: :5000\n",
			`config.yml:2:1: not readable as YAML: the line is indented with a tab; YAML allows spaces only`},
		{"a list", "- http\n",
			`config.yml:1:1: the file expects a section`},
		{"two documents", "version: 0.1\n---\nversion: 0.1\n",
			`config.yml:2:1: a second document begins here; a configuration is one document`},
		{"variable not set", "http:\n  host: ${NAME}.example.com\n",
			`config.yml:2:9: environment variable "NAME" is not set; write ${NAME:-value} for a default, or $${ for the characters themselves`},
		{"ACME without a name", "berth: {acme: {email: ops@example.com}}\n",
			`config.yml:1:23: ACME needs a name to ask a certificate for; set http.host (--host registry.example.com)`},
		{"all at once", "storge: {}\nhttp:\n  tlss: {}\n  addr: nowhere\n",
			"config.yml:1:1: unknown key \"storge\"; did you mean \"storage\"?\n" +
				"config.yml:3:3: unknown key \"tlss\" in http; did you mean \"tls\"?\n" +
				"config.yml:4:9: http.addr: expects host:port, such as 127.0.0.1:5000 or \":5000\", got \"nowhere\""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := load(test.file)
			var problems config.Problems
			if !errors.As(err, &problems) {
				t.Fatalf("got error %v, want problems", err)
			}
			got := problems.Error()
			if got != test.want && !(test.name == "a list" && strings.HasPrefix(got, test.want)) {
				t.Errorf("\n got %s\nwant %s", got, test.want)
			}
		})
	}
}

// TestRefused holds what this version must not start with, because it would do something else than asked.
func TestRefused(t *testing.T) {
	tests := []struct{ name, file, want string }{
		{"gcs", "storage:\n  gcs: {bucket: b}\n", "config.yml:2:3: storage driver gcs is not supported in this version"},
		{"azure", "storage:\n  azure: {container: c}\n", "config.yml:2:3: storage driver azure is not supported in this version"},
		{"proxy", "proxy:\n  remoteurl: https://registry-1.docker.io\n", "config.yml:1:1: proxy is not supported in this version: berth would start as an empty registry instead of a pull-through cache"},
		{"token without keys", "auth:\n  token: {realm: https://auth.example.com/token, service: s, issuer: i}\n", "config.yml:2:3: auth.token: rootcertbundle or jwks is needed: without keys no token can be told from a forged one"},
		{"token without realm", "auth:\n  token: {service: s, issuer: i, jwks: /k}\n", "config.yml:2:3: auth.token: realm is needed, or autoredirect: clients have to be told where to get a token"},
		{"token of ourselves", "auth:\n  token: {autoredirect: true, service: s, issuer: berth, jwks: /k}\n", "config.yml:2:51: auth.token.issuer: berth is the issuer of this registry's own tokens; give the token server another name"},
		{"silly", "auth: {silly: {realm: r, service: s}}\n", "config.yml:1:8: auth provider silly is not supported in this version: it admits every request that carries any Authorization header"},
		{"middleware", "middleware:\n  storage:\n    - name: cloudfront\n      options: {baseurl: x}\n", "config.yml:1:1: middleware is not supported in this version: requests would reach the registry without it"},
		{"url lists", "validation: {manifests: {urls: {deny: [\"^http://\"]}}}\n", "config.yml:1:26: validation.manifests.urls is not supported in this version: layers with foreign URLs would not be held against these lists"},
		{"unix", "http: {net: unix, addr: \":1\"}\n", "config.yml:1:13: http.net is not supported in this version: berth listens on TCP only"},
		{"prefix", "http: {prefix: /x/}\n", "config.yml:1:16: http.prefix is not supported in this version: let the proxy strip it, and name it in http.host: https://HOST/PREFIX"},
		{"classes", "policy: {repository: {classes: [image]}}\n", "config.yml:1:23: policy.repository.classes is not supported in this version: content of other classes would be accepted"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if _, err := load(test.file); err == nil || err.Error() != test.want {
				t.Errorf("\n got %v\nwant %s", err, test.want)
			}
		})
	}
}

// TestNoAuthSection: a file of distribution is told what is otherwise here when nobody proves identities, and only then.
func TestNoAuthSection(t *testing.T) {
	const file = "version: 0.1\nstorage: {inmemory: {}}\n"
	for name, test := range map[string]struct {
		auth string
		want bool
	}{
		"none":     {"", true},
		"said":     {"auth: {anonymous: pull}\n", false},
		"htpasswd": {"auth: {htpasswd: {realm: r, path: /etc/htpasswd}}\n", false},
		"ldap":     {"auth: {ldap: [{name: corp, servers: [\"ldaps://ldap.example.com\"], users: {base: \"dc=example,dc=com\"}}]}\n", false},
		"oidc":     {"auth: {oidc: [{name: sso, issuer: \"https://sso.example.com\", clientid: berth}]}\n", false},
		"mtls":     {"auth: {mtls: {cas: [/etc/ca.pem], rules: [{cn: \"*\", account: \"{cn}\"}]}}\n", false},
	} {
		l, err := load(file + test.auth)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := strings.Contains(fmt.Sprint(l.Warnings), "no auth section"); got != test.want {
			t.Errorf("%s: warnings %v", name, l.Warnings)
		}
	}
}

func TestSwitchedOffIsNotRefused(t *testing.T) {
	l := mustLoad(t, "middleware: {storage: [{name: cloudfront, disabled: true}]}\nproxy: {remoteurl: \"\"}\nredis: {}\nnotifications: {endpoints: [{name: x, disabled: true}]}\n")
	if len(l.Warnings) > 0 {
		t.Errorf("got warnings %v for sections that ask for nothing", l.Warnings)
	}
}

func TestDistributionFile(t *testing.T) {
	content, err := os.ReadFile(filepath.Join("testdata", "registry2.yml"))
	if err != nil {
		t.Fatal(err)
	}
	l := mustLoad(t, string(content))
	c := l.Config
	switch {
	case c.HTTP.Addr != ":5000", c.HTTP.Debug.Addr != ":5001", c.HTTP.TLS.Certificate != "/certs/domain.crt":
		t.Errorf("http section not read: %+v", c.HTTP)
	case c.Storage.Driver() != "filesystem", c.Storage.Filesystem.RootDirectory != "/var/lib/registry", c.Berth.Data != "/var/lib/registry":
		t.Errorf("data would not be where distribution keeps it: %+v, %s", c.Storage.Filesystem, c.Berth.Data)
	case c.Storage.Delete.Enabled:
		t.Error("delete is on; distribution's default is off")
	case c.Auth.Anonymous != "none", c.Auth.Users != "delete":
		t.Errorf("auth.anonymous is %s, auth.users %s; distribution with htpasswd gives everything to accounts and nothing to others", c.Auth.Anonymous, c.Auth.Users)
	}
	var warned []string
	for _, w := range l.Warnings {
		if w.Line == 0 || !w.Warning {
			t.Errorf("warning without a line: %s", w)
		}
		warned = append(warned, w.Key)
	}
	want := "storage.cache health.storagedriver.interval health.storagedriver.threshold redis"
	if got := strings.Join(warned, " "); got != want {
		t.Errorf("warnings for\n%s\nwant\n%s", got, want)
	}
	for _, key := range []string{"http.addr", "storage.filesystem.rootdirectory"} {
		if o := l.Origin(key); o.Source != "file" || o.Line == 0 {
			t.Errorf("origin of %s is %s", key, o)
		}
	}
}

func TestDefaultsDependOnTheFile(t *testing.T) {
	tests := []struct {
		name, file        string
		env               []string
		wantDelete        bool
		wantAnonymous     string
		wantAddr, wantDir string
	}{
		{"nothing", "", nil, true, "pull", "127.0.0.1:5000", "./berth-data"},
		{"ours", "berth: {data: /d}\n", nil, true, "pull", "127.0.0.1:5000", "/d"},
		{"ours with version", "version: 0.1\nberth: {data: /d}\nauth: {htpasswd: {path: /h}}\n", nil, true, "pull", "127.0.0.1:5000", "/d"},
		{"distribution's", "version: 0.1\nhttp: {addr: \":5000\"}\n", nil, false, "pull", ":5000", "./berth-data"},
		{"distribution's says delete", "version: 0.1\nstorage: {filesystem: {rootdirectory: /r}, delete: {enabled: true}}\n", nil, true, "pull", "127.0.0.1:5000", "/r"},
		{"distribution's, opened", "version: 0.1\nauth: {htpasswd: {path: /h}}\n", []string{"BERTH_ANONYMOUS=pull"}, false, "pull", "127.0.0.1:5000", "./berth-data"},
		{"htpasswd by distribution's variables", "", []string{"REGISTRY_AUTH=htpasswd", "REGISTRY_AUTH_HTPASSWD_PATH=/h"}, true, "none", "127.0.0.1:5000", "./berth-data"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := mustLoad(t, test.file, test.env...).Config
			if c.Storage.Delete.Enabled != test.wantDelete || c.Auth.Anonymous != test.wantAnonymous || c.HTTP.Addr != test.wantAddr ||
				c.Storage.Filesystem.RootDirectory != test.wantDir || c.Berth.Data != test.wantDir {
				t.Errorf("got delete %v, anonymous %s, addr %s, data %s and %s", c.Storage.Delete.Enabled, c.Auth.Anonymous, c.HTTP.Addr,
					c.Berth.Data, c.Storage.Filesystem.RootDirectory)
			}
		})
	}
}

func TestWhichFile(t *testing.T) {
	all := files{"ours": "http: {addr: \":1\"}", "theirs": "version: 0.1\nhttp: {addr: \":2\"}\nauth: {none: {}}", "named": "http: {addr: \":3\"}"}
	tests := []struct {
		name     string
		options  config.LoadOptions
		wantFile string
		wantAddr string
		notice   bool
	}{
		{"none", config.LoadOptions{Search: []string{"missing"}, Fallback: []string{"missing too"}}, "", "127.0.0.1:5000", false},
		{"first of ours", config.LoadOptions{Search: []string{"missing", "ours"}, Fallback: []string{"theirs"}}, "ours", ":1", false},
		{"fall back", config.LoadOptions{Search: []string{"missing"}, Fallback: []string{"theirs"}}, "theirs", ":2", true},
		{"named", config.LoadOptions{File: "named", Search: []string{"ours"}}, "named", ":3", false},
		{"by variable", config.LoadOptions{Env: []string{"BERTH_CONFIG=named"}, Search: []string{"ours"}}, "named", ":3", false},
		{"stdin", config.LoadOptions{File: "-", Stdin: func() ([]byte, error) { return []byte("http: {addr: \":4\"}"), nil }}, "stdin", ":4", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.options.ReadFile = all.read
			l, err := config.Load(test.options)
			if err != nil {
				t.Fatal(err)
			}
			noticed := len(l.Warnings) > 0 && strings.Contains(l.Warnings[len(l.Warnings)-1].Message, "using this file of distribution")
			if l.File != test.wantFile || l.Config.HTTP.Addr != test.wantAddr || noticed != test.notice {
				t.Errorf("got file %q, addr %s, warnings %v", l.File, l.Config.HTTP.Addr, l.Warnings)
			}
		})
	}
	if _, err := config.Load(config.LoadOptions{File: "absent", ReadFile: all.read}); err == nil || err.Error() != "absent: cannot read the configuration: file does not exist" {
		t.Errorf("a named file that is missing: %v", err)
	}
}

func TestAliasesAndMergeKeys(t *testing.T) {
	c := mustLoad(t, "berth:\n  limits: &l\n    login_failures: 3\nhttp:\n  headers:\n    X-A: &list [a]\n    X-B: *list\nnotifications:\n  endpoints:\n    - &e {name: one, disabled: true}\n    - {<<: *e, name: two}\n").Config
	if c.HTTP.Headers["X-B"][0] != "a" || len(c.Notifications.Endpoints) != 2 {
		t.Fatalf("%+v", c.HTTP.Headers)
	}
	if two := c.Notifications.Endpoints[1]; two.Name != "two" || !two.Disabled {
		t.Errorf("merged entry: %+v", two)
	}
}

// TestAliasBomb: a small file that multiplies aliases costs bounded work and is refused.
func TestAliasBomb(t *testing.T) {
	var b strings.Builder
	b.WriteString("http:\n  headers:\n    A: &l [" + strings.Repeat("x,", 2000) + "x]\n")
	for range 1000 {
		b.WriteString("    B" + strings.Repeat("b", b.Len()%97) + strings.Repeat("c", b.Len()%89) + ": *l\n")
	}
	if _, err := load(b.String()); err == nil {
		t.Error("two million values were read")
	}
}

// TestOldWordsAreBroughtUpToDate: what distribution offers and no server should offer any more becomes
// the nearest thing that is, with a word about it.
func TestOldWordsAreBroughtUpToDate(t *testing.T) {
	l := mustLoad(t, "loglevel: WARN\nlog: {formatter: logstash}\nhttp:\n  tls:\n    minimumtls: tls1.0\n    clientcas: [/ca]\n"+
		"    ciphersuites: [TLS_AES_128_GCM_SHA256, TLS_RSA_WITH_RC4_128_SHA, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]\n"+
		"    letsencrypt: {email: ops@example.com, hosts: [r.example.com], cachefile: /c}\n")
	c := l.Config
	if c.Log.Level != "warn" || c.Log.Formatter != "json" || c.HTTP.TLS.MinimumTLS != "tls1.2" || c.HTTP.TLS.ClientAuth != "require-and-verify-client-cert" {
		t.Errorf("log %+v, tls %+v", c.Log, c.HTTP.TLS)
	}
	if got := strings.Join(c.HTTP.TLS.CipherSuites, " "); got != "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256" {
		t.Errorf("cipher suites %s", got)
	}
	if c.Berth.ACME.Email != "ops@example.com" || strings.Join(c.Berth.ACME.Hosts, " ") != "r.example.com" {
		t.Errorf("acme %+v", c.Berth.ACME)
	}
	var warned []string
	for _, w := range l.Warnings {
		warned = append(warned, w.Key)
	}
	if got := strings.Join(warned, " "); got != "log.formatter http.tls.minimumtls http.tls.ciphersuites http.tls.letsencrypt.cachefile" {
		t.Errorf("warnings for %s", got)
	}
}
