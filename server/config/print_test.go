package config_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/berth-registry/berth/server/config"
)

var update = flag.Bool("update", false, "write the golden files")

// TestPrintDefaults: the file that berthd prints is the golden one, loads without a word, and changes nothing.
func TestPrintDefaults(t *testing.T) {
	for _, lang := range []string{"en", "zh-CN"} {
		t.Run(lang, func(t *testing.T) {
			var b bytes.Buffer
			if err := config.PrintDefaults(&b, lang); err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", "defaults."+lang+".golden")
			if *update {
				if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if b.String() != string(want) {
				t.Errorf("differs from %s; look at it with git diff after go test -update:\n%s", golden, b.String())
			}
			printed, nothing := mustLoad(t, b.String()), mustLoad(t, "")
			if len(printed.Warnings) > 0 {
				t.Errorf("warnings: %v", printed.Warnings)
			}
			if !reflect.DeepEqual(printed.Config, nothing.Config) {
				t.Errorf("changes %v", first(config.Diff(nothing.Config, printed.Config)))
			}
		})
	}
}

func first(a, _ []string) []string { return a }

// TestTags: what each key says about itself is there, and its default is a value of its type.
func TestTags(t *testing.T) {
	seen := map[string]string{}
	for _, s := range config.Settings() {
		if s.Doc == "" || !strings.HasSuffix(s.Doc, ".") {
			t.Errorf("%s: comment %q is not a sentence", s.Key, s.Doc)
		}
		if s.DocZH == "" {
			t.Errorf("%s has no Chinese comment", s.Key)
		}
		if s.Unsupported == "" && s.Key != "storage.inmemory" && !strings.ContainsFunc(s.DocZH, func(r rune) bool { return unicode.Is(unicode.Han, r) }) {
			t.Errorf("%s: %q is not Chinese", s.Key, s.DocZH)
		}
		if other := seen[s.Env]; other != "" {
			t.Errorf("%s and %s have one variable, %s", other, s.Key, s.Env)
		}
		seen[s.Env] = s.Key
		if s.Default == "" {
			continue
		}
		file := fmt.Sprintf("%q", s.Default)
		parts := strings.Split(s.Key, ".")
		for _, name := range slices.Backward(parts) {
			file = "{" + name + ": " + file + "}"
		}
		if s.Unsupported != "refuse" && !strings.HasPrefix(s.Key, "auth.htpasswd") {
			var env []string
			if strings.HasPrefix(s.Key, "storage.s3.") {
				env = []string{"REGISTRY_STORAGE_S3_BUCKET=b"} // which the driver needs
			}
			mustLoad(t, file, env...)
		}
	}
}

func TestDumpLoadsAgain(t *testing.T) {
	content, err := os.ReadFile(filepath.Join("testdata", "registry2.yml"))
	if err != nil {
		t.Fatal(err)
	}
	l := mustLoad(t, string(content), "BERTH_ADMIN_PASSWORD=hunter2", "BERTH_DATABASE=postgres://u:hunter2@db/x", "REGISTRY_LOG_FIELDS_X=${literal}")
	var shown, revealed bytes.Buffer
	if err := l.Dump(&shown, config.DumpOptions{Origin: true}); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"hunter2", "asecretforlocaldevelopment", "Bearer abcdef"} {
		if strings.Contains(shown.String(), secret) {
			t.Errorf("the dump shows %q:\n%s", secret, shown.String())
		}
	}
	for _, line := range []string{"addr: :5000 # config.yml:29:9", "password: '***' # BERTH_ADMIN_PASSWORD", "level: info # config.yml:5:10", "relativeurls: false # default"} {
		if !strings.Contains(shown.String(), line) {
			t.Errorf("no line %q in\n%s", line, shown.String())
		}
	}
	if err := l.Dump(&revealed, config.DumpOptions{Reveal: true}); err != nil {
		t.Fatal(err)
	}
	again := mustLoad(t, revealed.String())
	if !reflect.DeepEqual(l.Config, again.Config) {
		t.Errorf("the dump changes %v:\n%s", first(config.Diff(l.Config, again.Config)), revealed.String())
	}
}

// TestSecretsNeverPrint formats a whole configuration in every way that a log line or an error could.
func TestSecretsNeverPrint(t *testing.T) {
	l := mustLoad(t, "http: {secret: hunter2}\nmiddleware: {storage: [{name: x, disabled: true, options: {privatekey: hunter2}}]}\nhealth: {http: [{uri: x, headers: {Authorization: [hunter2]}}]}\n",
		"BERTH_ADMIN_PASSWORD=hunter2")
	asJSON, err := json.Marshal(l.Config)
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := yaml.Marshal(l.Config)
	if err != nil {
		t.Fatal(err)
	}
	var logged bytes.Buffer
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "config", l.Config, "secret", l.Config.HTTP.Secret)
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "config", l.Config, "secret", l.Config.HTTP.Secret)
	for how, text := range map[string]string{
		"%v": fmt.Sprintf("%v", *l.Config), "%+v": fmt.Sprintf("%+v", *l.Config), "%#v": fmt.Sprintf("%#v", *l.Config),
		"%s": fmt.Sprintf("%s", l.Config.HTTP.Secret), "%q": fmt.Sprintf("%q", l.Config.HTTP.Secret), "%x": fmt.Sprintf("%x", l.Config.HTTP.Secret),
		"JSON": string(asJSON), "YAML": string(asYAML), "slog": logged.String(),
	} {
		if strings.Contains(text, "hunter2") || strings.Contains(text, fmt.Sprintf("%x", "hunter2")) {
			t.Errorf("%s shows a secret: %s", how, text)
		}
		if !strings.Contains(text, "***") {
			t.Errorf("%s does not show that a secret is set: %s", how, text)
		}
	}
	if got := l.Config.HTTP.Secret.Reveal(); got != "hunter2" {
		t.Errorf("revealed %q", got)
	}
}

// TestSecretsAreNotQuotedInProblems: mistakes around a secret do not print it.
func TestSecretsAreNotQuotedInProblems(t *testing.T) {
	for _, file := range []string{
		"http: {secret: [hunter2]}", "http: {secret: {a: hunter2}}", "berth: {database: {url: \"mysql://root:hunter2@db\"}}", "http: {secret: \"a${hunter2!}\"}",
	} {
		_, err := load(file)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestSchema(t *testing.T) {
	content, err := config.Schema()
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(content, &schema); err != nil {
		t.Fatal(err)
	}
	if schema["$schema"] != "https://json-schema.org/draft/2020-12/schema" {
		t.Errorf("$schema is %v", schema["$schema"])
	}
	for _, s := range config.Settings() {
		node := schema
		for _, name := range strings.Split(s.Key, ".") {
			if options, ok := node["anyOf"].([]any); ok {
				node = options[0].(map[string]any)
			}
			if node["additionalProperties"] != false {
				t.Fatalf("%s: unknown keys are allowed beside %s", s.Key, name)
			}
			node = node["properties"].(map[string]any)[name].(map[string]any)
		}
		if node["description"] == "" {
			t.Errorf("%s has no description", s.Key)
		}
		if enum, _ := node["enum"].([]any); len(enum) != len(s.Allowed) {
			t.Errorf("%s allows %v, its schema %v", s.Key, s.Allowed, enum)
		}
	}
}

func TestEnvListIsUnderstood(t *testing.T) {
	for _, v := range config.EnvList() {
		value := v.Default
		switch {
		case strings.HasSuffix(v.Name, "_FILE"):
			value = "/secret"
		case v.Secret, value == "":
			continue // empty is "not set"
		}
		env := []string{v.Name + "=" + value, "REGISTRY_AUTH_HTPASSWD_PATH=/h"}
		if strings.HasPrefix(v.Name, "REGISTRY_STORAGE_S3_") { // with what the driver needs
			env = append(env, "REGISTRY_STORAGE_S3_BUCKET=b")
			for _, name := range []string{"REGISTRY_STORAGE_S3_ACCESSKEY", "REGISTRY_STORAGE_S3_SECRETKEY"} {
				if v.Name != name+"_FILE" {
					env = append(env, name+"=k")
				}
			}
		}
		_, err := config.Load(config.LoadOptions{Env: env, Search: []string{}, Fallback: []string{},
			ReadFile: files{"/secret": "postgres://u@db/x"}.read})
		if err != nil {
			t.Errorf("%s=%s: %v", v.Name, value, err)
		}
	}
}

func TestExplain(t *testing.T) {
	found, err := config.Explain("http.addr")
	if err != nil || len(found) != 1 || found[0].Env != "REGISTRY_HTTP_ADDR" || found[0].Alias != "BERTH_ADDR" || found[0].Default != "127.0.0.1:5000" {
		t.Errorf("%+v, %v", found, err)
	}
	if found, err = config.Explain("berth.limits"); err != nil || len(found) < 5 || !found[0].Reload {
		t.Errorf("%+v, %v", found, err)
	}
	if _, err = config.Explain("http.adr"); err == nil || err.Error() != `unknown key "http.adr"; did you mean "http.addr"?` {
		t.Errorf("%v", err)
	}
}

func TestDiff(t *testing.T) {
	base := "http: {tls: {certificate: /a, key: /b}}\n"
	tests := []struct{ name, file, changed, restart string }{
		{"nothing", base, "", ""},
		{"level", base + "log: {level: debug}\n", "log.level", ""},
		{"limits", base + "berth: {limits: {manifest_bytes: 1MiB, cache_bytes: 1MiB}}\n", "berth.limits.manifest_bytes berth.limits.cache_bytes", "berth.limits.cache_bytes"},
		{"certificate", "http: {tls: {certificate: /c, key: /d}}\n", "http.tls.certificate http.tls.key", ""},
		{"address", base + "log: {level: debug}\nberth: {admin: {password: x}}\n", "log.level berth.admin.password", "berth.admin.password"},
		{"driver", base + "storage: inmemory\n", "storage.filesystem.rootdirectory storage.filesystem.maxthreads storage.inmemory", "storage.filesystem.rootdirectory storage.filesystem.maxthreads storage.inmemory"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			changed, restart := config.Diff(mustLoad(t, base).Config, mustLoad(t, test.file).Config)
			if strings.Join(changed, " ") != test.changed || strings.Join(restart, " ") != test.restart {
				t.Errorf("changed %v, restart %v", changed, restart)
			}
		})
	}
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]config.Bytes{"0": 0, "4194304": 4 << 20, "4MiB": 4 << 20, "4 mib": 4 << 20, "5MB": 5e6, "1b": 1, "8TiB": 8 << 40} {
		got, err := config.ParseBytes(text)
		if err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
		if again, err := config.ParseBytes(got.String()); err != nil || again != got {
			t.Errorf("%s prints as %s", text, got)
		}
	}
	for _, text := range []string{"", "-1", "MiB", "1.5GiB", "9999999999TiB", "99999999999999999999"} {
		if got, err := config.ParseBytes(text); err == nil {
			t.Errorf("%q is %d bytes", text, got)
		}
	}
}

func TestHost(t *testing.T) {
	tests := []struct{ host, hostname, url string }{
		{"", "", "<nil>"},
		{"registry.example.com", "registry.example.com", "https://registry.example.com"},
		{"registry.example.com:5000", "registry.example.com", "https://registry.example.com:5000"},
		{"http://r.example.com:5000/", "r.example.com", "http://r.example.com:5000"},
		{"https://[::1]:5000", "::1", "https://[::1]:5000"},
	}
	for _, test := range tests {
		h := mustLoad(t, fmt.Sprintf("http: {host: %q}\n", test.host)).Config.HTTP
		if got := fmt.Sprint(h.ExternalURL()); h.Hostname() != test.hostname || got != test.url {
			t.Errorf("%q: %q, %s", test.host, h.Hostname(), got)
		}
	}
}
