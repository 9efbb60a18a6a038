package config_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/berth-registry/berth/server/config"
)

// fillSecrets makes every section, and one element of every list, and puts a secret wherever one can be.
func fillSecrets(v reflect.Value) (n int) {
	if v.Type() == reflect.TypeFor[config.Secret]() {
		v.Set(reflect.ValueOf(config.NewSecret("harbour-Wall-7")))
		return 1
	}
	if v.Type() == reflect.TypeFor[config.Opaque]() {
		v.Set(reflect.ValueOf(config.Opaque{"key": "harbour-Wall-7"}))
		return 1
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return fillSecrets(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() {
				n += fillSecrets(f)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		n = fillSecrets(v.Index(0))
	case reflect.Map:
		one := reflect.New(v.Type().Elem()).Elem()
		n = fillSecrets(one)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("name").Convert(v.Type().Key()), one)
	}
	return n
}

// No value tells a secret, wherever it is.
func TestValuesHideSecrets(t *testing.T) {
	c := config.Defaults()
	if n := fillSecrets(reflect.ValueOf(c).Elem()); n < 15 {
		t.Fatalf("only %d secrets were put there", n)
	}
	settings := map[string]config.Origin{}
	for _, s := range config.Settings() {
		settings[s.Key] = config.Origin{Source: "env", Name: s.Env}
	}
	values := (&config.Loaded{Config: c, Origins: settings}).Values()
	if len(values) != len(settings) {
		t.Errorf("%d values of %d settings", len(values), len(settings))
	}
	text, err := json.Marshal(values)
	if err != nil || strings.Contains(string(text), "harbour") {
		t.Errorf("%v %s", err, text)
	}
	secrets := 0
	for _, v := range values {
		if v.Secret {
			secrets++
			if v.Is != nil || !v.IsSet {
				t.Errorf("%s: %v %v", v.Key, v.Is, v.IsSet)
			}
		}
	}
	if secrets < 5 {
		t.Errorf("only %d secrets", secrets)
	}
}

func TestValues(t *testing.T) {
	l, err := config.Load(config.LoadOptions{
		File: "berth.yml", Search: []string{}, Fallback: []string{}, Env: []string{"BERTH_ADMIN_PASSWORD=harbour-Wall-7", "BERTH_ANONYMOUS=none"}, Flags: map[string]string{"addr": "127.0.0.1:7000"},
		ReadFile: func(string) ([]byte, error) { return []byte("version: 0.1\ncatalog:\n  maxentries: 7\n"), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]config.Value{}
	for _, v := range l.Values() {
		got[v.Key] = v
	}
	for key, want := range map[string]struct {
		is     any
		set    bool
		origin string
	}{
		"catalog.maxentries": {int64(7), true, "berth.yml:3:15"}, "berth.admin.password": {nil, true, "BERTH_ADMIN_PASSWORD"}, "auth.anonymous": {"none", true, "BERTH_ANONYMOUS"},
		"http.addr": {"127.0.0.1:7000", true, "--addr"}, "tags.maxtags": {int64(1000), true, "default"}, "berth.token.lifetime": {"5m", true, "default"},
		"http.secret": {nil, false, "default"}, "berth.limits.manifest_bytes": {"4MiB", true, "default"}, "berth.projects.public": {[]any{}, false, "default"},
	} {
		if v := got[key]; !reflect.DeepEqual(v.Is, want.is) || v.IsSet != want.set || v.Origin.String() != want.origin {
			t.Errorf("%s: %#v %v %s; want %#v %v %s", key, v.Is, v.IsSet, v.Origin, want.is, want.set, want.origin)
		}
	}
	if _, there := got["storage.s3.bucket"]; there {
		t.Error("a driver that is not chosen has values")
	}
}
