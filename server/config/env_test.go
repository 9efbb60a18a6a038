package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/server/config"
)

func TestEnv(t *testing.T) {
	const file = "http:\n  addr: :1\n  headers: {X-A: [a]}\n  tls: {clientcas: [/a, /b]}\n"
	tests := []struct {
		name string
		env  []string
		got  func(*config.Config) any
		want any
	}{
		{"path", []string{"REGISTRY_HTTP_ADDR=:2"}, func(c *config.Config) any { return c.HTTP.Addr }, ":2"},
		{"berth wins", []string{"BERTH_HTTP_ADDR=:3", "REGISTRY_HTTP_ADDR=:2"}, func(c *config.Config) any { return c.HTTP.Addr }, ":3"},
		{"short name", []string{"BERTH_ADDR=:4"}, func(c *config.Config) any { return c.HTTP.Addr }, ":4"},
		{"compose quotes", []string{`REGISTRY_HTTP_ADDR="0.0.0.0:5"`}, func(c *config.Config) any { return c.HTTP.Addr }, "0.0.0.0:5"},
		{"below berth", []string{"BERTH_DATA=/d"}, func(c *config.Config) any { return c.Berth.Data }, "/d"},
		{"same path first", []string{"BERTH_LOG_LEVEL=DEBUG"}, func(c *config.Config) any { return c.Log.Level }, "debug"},
		{"anonymous", []string{"BERTH_ANONYMOUS=delete"}, func(c *config.Config) any { return c.Auth.Anonymous }, "delete"},
		{"language", []string{"BERTH_LANG=zh-cn"}, func(c *config.Config) any { return c.Berth.Language }, "zh-CN"},
		{"format", []string{"BERTH_LOG_FORMAT=json"}, func(c *config.Config) any { return c.Log.Formatter }, "json"},
		{"key with _", []string{"BERTH_LIMITS_MANIFEST_BYTES=1MiB"}, func(c *config.Config) any { return c.Berth.Limits.ManifestBytes }, config.Bytes(1 << 20)},
		{"whole path below berth", []string{"BERTH_BERTH_LIMITS_IDLE_TIMEOUT=9s"}, func(c *config.Config) any { return c.Berth.Limits.IdleTimeout }, 9 * time.Second},
		{"index replaces", []string{"REGISTRY_HTTP_TLS_CLIENTCAS_1=/c"}, func(c *config.Config) any { return strings.Join(c.HTTP.TLS.ClientCAs, " ") }, "/a /c"},
		{"index appends", []string{"REGISTRY_HTTP_TLS_CLIENTCAS_2=/c", "REGISTRY_HTTP_TLS_CLIENTCAS_3=/d"}, func(c *config.Config) any { return strings.Join(c.HTTP.TLS.ClientCAs, " ") }, "/a /b /c /d"},
		{"list with commas", []string{"BERTH_PROJECTS_PUBLIC=oss-*, docs"}, func(c *config.Config) any { return strings.Join(c.Berth.Projects.Public, " ") }, "oss-* docs"},
		{"list in YAML", []string{"BERTH_PROJECTS_PUBLIC=[a, b]"}, func(c *config.Config) any { return len(c.Berth.Projects.Public) }, 2},
		{"map entry", []string{"REGISTRY_HTTP_HEADERS_X-CONTENT-TYPE-OPTIONS=[nosniff]"}, func(c *config.Config) any {
			return c.HTTP.Headers["X-Content-Type-Options"][0] + c.HTTP.Headers["X-A"][0]
		}, "nosniffa"},
		{"map entry that is there", []string{"REGISTRY_HTTP_HEADERS_X-A=b"}, func(c *config.Config) any { return c.HTTP.Headers["X-A"][0] }, "b"},
		{"field", []string{"REGISTRY_LOG_FIELDS_SERVICE=registry"}, func(c *config.Config) any { return c.Log.Fields["service"] }, "registry"},
		{"short form", []string{"REGISTRY_STORAGE=inmemory"}, func(c *config.Config) any { return c.Storage.Driver() }, "inmemory"},
		{"section without keys", []string{"REGISTRY_AUTH=htpasswd", "REGISTRY_AUTH_HTPASSWD_REALM=r", "REGISTRY_AUTH_HTPASSWD_PATH=/h"}, func(c *config.Config) any { return *c.Auth.Htpasswd }, config.Htpasswd{Realm: "r", Path: "/h"}},
		{"empty is not set", []string{"BERTH_ANONYMOUS=", "REGISTRY_HTTP_ADDR="}, func(c *config.Config) any { return c.Auth.Anonymous + c.HTTP.Addr }, "pull:1"},
		{"secret", []string{"REGISTRY_HTTP_SECRET=abc"}, func(c *config.Config) any { return c.HTTP.Secret.Reveal() }, "abc"},
		{"secret from a file", []string{"BERTH_ADMIN_PASSWORD_FILE=/run/secrets/pw"}, func(c *config.Config) any { return c.Berth.Admin.Password.Reveal() }, "file:hunter2"},
		{"secret reference", []string{"BERTH_ADMIN_PASSWORD=file:/run/secrets/db"}, func(c *config.Config) any { return c.Berth.Admin.Password.Reveal() }, "postgres://u:p@db/x"},
		{"alias with _FILE", []string{"BERTH_DATABASE_FILE=/run/secrets/db"}, func(c *config.Config) any { return c.Berth.Database.URL.Reveal() }, "postgres://u:p@db/x"},
		{"podman's variable", []string{"REGISTRY_AUTH_FILE=/home/alice/auth.json"}, func(c *config.Config) any { return c.Auth.Htpasswd == nil }, true},
		{"service links", []string{"REGISTRY_PORT=tcp://10.0.0.1:5000", "REGISTRY_SERVICE_HOST=10.0.0.1", "REGISTRY_SERVICE_PORT=5000", "REGISTRY_SERVICE_PORT_HTTP=5000",
			"REGISTRY_PORT_5000_TCP=tcp://10.0.0.1:5000", "REGISTRY_PORT_5000_TCP_PROTO=tcp", "REGISTRY_UI_SERVICE_HOST=10.0.0.2", "REGISTRY_UI_PORT=tcp://10.0.0.2:80",
			"BERTH_PORT_5000_TCP_ADDR=10.0.0.1"}, func(c *config.Config) any { return c.HTTP.Addr }, ":1"},
		{"other programs' variables", []string{"REGISTRY=x", "BERTHA_X=y", "HOME=/"}, func(c *config.Config) any { return c.HTTP.Addr }, ":1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l, err := config.Load(config.LoadOptions{File: "config.yml", Env: test.env, ReadFile: files{
				"config.yml": file, "/run/secrets/pw": "file:hunter2\n", "/run/secrets/db": "postgres://u:p@db/x\r\n",
			}.read})
			if err != nil {
				t.Fatal(err)
			}
			if got := test.got(l.Config); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
			if len(l.Warnings) > 0 {
				t.Errorf("warnings: %v", l.Warnings)
			}
		})
	}
}

func TestEnvMistakes(t *testing.T) {
	tests := []struct{ name, env, want string }{
		{"typo", "REGISTRY_HTTP_ADRR=:5000", `REGISTRY_HTTP_ADRR: unknown variable REGISTRY_HTTP_ADRR; did you mean "REGISTRY_HTTP_ADDR"?`},
		{"typo below berth", "BERTH_ADMIN_PASWORD=x", `BERTH_ADMIN_PASWORD: unknown variable BERTH_ADMIN_PASWORD; did you mean "BERTH_ADMIN_PASSWORD"?`},
		{"typo of a file", "BERTH_ADMIN_PASSWORD_FIEL=x", `BERTH_ADMIN_PASSWORD_FIEL: unknown variable BERTH_ADMIN_PASSWORD_FIEL; did you mean "BERTH_ADMIN_PASSWORD_FILE"?`},
		{"nothing like", "BERTH_QWERTYUIOPASDFGHJKLZ=x", `BERTH_QWERTYUIOPASDFGHJKLZ: unknown variable BERTH_QWERTYUIOPASDFGHJKLZ; "berthd config env" lists all; BERTH_CONFIG_LENIENT=1 makes this a warning`},
		{"header of two lines", "REGISTRY_HTTP_HEADERS_X=[\"a\\r\\nb\"]", `REGISTRY_HTTP_HEADERS_X: http.headers.X expects a value of one line`},
		{"s3 by its name", "REGISTRY_STORAGE=s3", `REGISTRY_STORAGE: storage.s3.bucket is missing; name the bucket that content is kept in`},
		{"value", "REGISTRY_STORAGE_DELETE_ENABLED=perhaps", `REGISTRY_STORAGE_DELETE_ENABLED: storage.delete.enabled expects true or false, got "perhaps"`},
		{"word", "BERTH_ANONYMOUS=all", `BERTH_ANONYMOUS: auth.anonymous: unknown value "all" (none, pull, push, delete)`},
		{"index too high", "REGISTRY_HTTP_TLS_CLIENTCAS_3=/x", `REGISTRY_HTTP_TLS_CLIENTCAS_3: http.tls.clientcas has 0 entries; the next one has index 0, not 3`},
		{"s3 replaces the default driver", "REGISTRY_STORAGE_S3_CHUNKSIZE=1", "REGISTRY_STORAGE_S3_CHUNKSIZE: storage.s3.bucket is missing; name the bucket that content is kept in\n" +
			"REGISTRY_STORAGE_S3_CHUNKSIZE: storage.s3.chunksize: 1 is outside of what S3 takes as a part, 5MiB to 5GiB"},
		{"secret file missing", "BERTH_ADMIN_PASSWORD_FILE=/absent", `BERTH_ADMIN_PASSWORD_FILE: cannot read the file of the secret: open /absent: file does not exist`},
		{"file of no secret", "BERTH_DATA_FILE=/x", `BERTH_DATA_FILE: unknown variable BERTH_DATA_FILE; did you mean "BERTH_DATABASE"?`},
		{"section", "REGISTRY_HTTP=yes", `REGISTRY_HTTP: http expects a section, its keys indented on the next lines: addr, net, host, prefix, secret, relativeurls, draintimeout, allowplain, trustedproxies, headers, tls, debug, http2, h2c; got "yes"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if _, err := load("storage: {filesystem: {}}\n", test.env); err == nil || err.Error() != test.want {
				t.Errorf("\n got %v\nwant %s", err, test.want)
			}
		})
	}
}

// Who has told the image tool something in a shell starts berthd there as well.
func TestVariablesOfTheTool(t *testing.T) {
	l := mustLoad(t, "", "BERTH_CONTEXT=prod", "BERTH_BLOB_CACHE_DIR=/x", "BERTH_COMPLETION_TIME=1s", "BERTH_KEY_PASSWORD=x", "REGISTRY_AUTH_FILE=/x")
	if len(l.Warnings) != 0 {
		t.Errorf("warnings: %v", l.Warnings)
	}
}

func TestLenient(t *testing.T) {
	l := mustLoad(t, "", "REGISTRY_HTTP_ADRR=:5000", "BERTH_CONFIG_LENIENT=1")
	if len(l.Warnings) != 1 || l.Warnings[0].Suggestion != "REGISTRY_HTTP_ADDR" {
		t.Errorf("warnings: %v", l.Warnings)
	}
	if _, err := load("http: {adrr: x}\n", "BERTH_CONFIG_LENIENT=1"); err == nil {
		t.Error("lenient is about variables; a file stays strict")
	}
}

func TestTwoDriversInTheEnvironment(t *testing.T) {
	_, err := load("", "REGISTRY_STORAGE_INMEMORY=", "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=/x", "REGISTRY_STORAGE_S3_BUCKET=b")
	want := "REGISTRY_STORAGE_S3_BUCKET: REGISTRY_STORAGE_S3_BUCKET names the storage driver s3, and REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY names filesystem; keep one"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("\n got %v\nwant %s", err, want)
	}
}

// The token server of the file is not switched off by a variable that somebody forgot.
func TestAuthOfTheFileAndOfTheEnvironment(t *testing.T) {
	file := "auth: {token: {realm: https://a.example.com/token, service: s, issuer: i, jwks: /keys}}\n"
	_, err := load(file, "REGISTRY_AUTH_HTPASSWD_PATH=/h")
	want := "REGISTRY_AUTH_HTPASSWD_PATH names the auth provider htpasswd, and the configuration file names token; only one can be in effect"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("\n got %v\nwant %s", err, want)
	}
	if _, err := load("auth: {htpasswd: {path: /h}}\n", "REGISTRY_AUTH_TOKEN_ISSUER=i"); err == nil || !strings.Contains(err.Error(), "names htpasswd; only one") {
		t.Errorf("the other way round: %v", err)
	}
	if _, err := load("auth: {htpasswd: {path: /h}, token: {realm: https://a.example.com/token, service: s, issuer: i, jwks: /keys}}\n"); err == nil || !strings.Contains(err.Error(), "token") {
		t.Errorf("both in the file: %v", err)
	}
	if c := mustLoad(t, file, "REGISTRY_AUTH=htpasswd", "REGISTRY_AUTH_HTPASSWD_PATH=/h").Config; c.Auth.Htpasswd == nil || c.Auth.Token != nil {
		t.Errorf("replaced on purpose: %+v", c.Auth)
	}
	if c := mustLoad(t, "auth: {htpasswd: {path: /h}}\n", "REGISTRY_AUTH_HTPASSWD_PATH=/other").Config; c.Auth.Htpasswd.Path != "/other" {
		t.Errorf("another file: %+v", c.Auth.Htpasswd)
	}
}

func TestDriverAndKeyOfAnother(t *testing.T) {
	_, err := load("storage: {filesystem: {}}\n", "REGISTRY_STORAGE=inmemory", "BERTH_STORAGE_FILESYSTEM_ROOTDIRECTORY=/x")
	want := "REGISTRY_STORAGE: this names the storage driver inmemory, and BERTH_STORAGE_FILESYSTEM_ROOTDIRECTORY names filesystem; keep one"
	if err == nil || err.Error() != want {
		t.Errorf("\n got %v\nwant %s", err, want)
	}
	if c := mustLoad(t, "storage: {filesystem: {rootdirectory: /x}}\n", "REGISTRY_STORAGE=inmemory").Config; c.Storage.Driver() != "inmemory" || c.Berth.Data != "./berth-data" {
		t.Errorf("driver %s, data %s", c.Storage.Driver(), c.Berth.Data)
	}
}

func TestPrecedence(t *testing.T) {
	l, err := config.Load(config.LoadOptions{File: "config.yml", ReadFile: files{"config.yml": "http: {addr: \":1\", host: a.example.com}\n"}.read,
		Env: []string{"REGISTRY_HTTP_ADDR=:2", "BERTH_HOST=b.example.com"}, Flags: map[string]string{"addr": ":3", "berth.data": "/d"}})
	if err != nil {
		t.Fatal(err)
	}
	c := l.Config
	if c.HTTP.Addr != ":3" || c.HTTP.Host != "b.example.com" || c.Berth.Data != "/d" {
		t.Errorf("addr %s, host %s, data %s", c.HTTP.Addr, c.HTTP.Host, c.Berth.Data)
	}
	for key, want := range map[string]string{"http.addr": "--addr", "http.host": "BERTH_HOST", "berth.data": "--berth.data", "log.level": "default",
		"storage.filesystem.rootdirectory": "from berth.data"} {
		if got := l.Origin(key).String(); got != want {
			t.Errorf("origin of %s is %s, want %s", key, got, want)
		}
	}
	if _, err := config.Load(config.LoadOptions{Flags: map[string]string{"adr": "x"}, Search: []string{}, Fallback: []string{}}); err == nil {
		t.Error("an unknown flag was taken")
	}
}

func TestValuesOfFiles(t *testing.T) {
	fs := files{
		"/etc/berth/berth.yml":  "http:\n  host: ${NAME}.example.com\n  secret: file:./secret\nlog: {fields: {literal: \"$${X}\"}}\nberth: {data: \"${DIR:-/d}\", admin: {password: \"file:pw\"}}\n",
		"/etc/berth/secret":     "s3cr3t\n",
		"/run/credentials/b/pw": "hunter2",
	}
	o := config.LoadOptions{File: "/etc/berth/berth.yml", ReadFile: fs.read, Env: []string{"NAME=registry", "CREDENTIALS_DIRECTORY=/run/credentials/b"}}
	l, err := config.Load(o)
	if err != nil {
		t.Fatal(err)
	}
	c := l.Config
	if c.HTTP.Host != "registry.example.com" || c.HTTP.Secret.Reveal() != "s3cr3t" || c.Berth.Data != "/d" ||
		c.Log.Fields["literal"] != "${X}" || c.Berth.Admin.Password.Reveal() != "hunter2" {
		t.Errorf("%s %s %s %v %s", c.HTTP.Host, c.HTTP.Secret.Reveal(), c.Berth.Data, c.Log.Fields, c.Berth.Admin.Password.Reveal())
	}
	o.Env = o.Env[:1]
	if _, err := config.Load(o); err == nil || !strings.Contains(err.Error(), "CREDENTIALS_DIRECTORY is not set") {
		t.Errorf("a credential without systemd: %v", err)
	}
}

func TestNanosecondsAreWarnedAbout(t *testing.T) {
	l := mustLoad(t, "http: {draintimeout: 30}\n")
	if l.Config.HTTP.DrainTimeout != 30 || len(l.Warnings) != 1 || l.Warnings[0].Line != 1 {
		t.Errorf("%v, %v", l.Config.HTTP.DrainTimeout, l.Warnings)
	}
}
