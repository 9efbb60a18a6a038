package server

import (
	"bytes"
	"context"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/config"
	"github.com/berth-registry/berth/server/identity"
)

// TestEnginesAskFirst calls every exported method of every engine that takes a context, with nothing but a context in
// which nobody is calling: it is denied, before any other argument is looked at. A new method asks, or has its reason here.
func TestEnginesAskFirst(t *testing.T) {
	loaded, err := config.Load(config.LoadOptions{Search: []string{}, Fallback: []string{}, Env: []string{
		"BERTH_DATA=" + filepath.Join(t.TempDir(), "data"), "BERTH_ADMIN_PASSWORD=harbour-Wall-7-lantern", "BERTH_ADDR=127.0.0.1:0",
		"REGISTRY_AUTH_ANONYMOUS=delete", "REGISTRY_AUTH_USERS=delete", "BERTH_LOG_LEVEL=error",
	}})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	s, err := New(t.Context(), Options{Config: loaded, Stderr: &log, Getenv: func(string) string { return "" }, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	const proves = "finds out who is calling"
	open := map[string]string{
		"registry.Sweep": "a job of berthd's own", "registry.Settle": "a job of berthd's own", "gc.Run": "a loop of berthd's own",
		"registry.SendBlob": "writes what OpenBlob has opened, which asked",
		"auth.Authenticate": proves, "auth.Password": proves, "auth.Login": proves, "auth.Refresh": proves, "auth.Exchange": proves, "auth.SignIn": proves,
		"auth.BeginLogin": proves, "auth.FinishLogin": proves, "auth.BeginDevice": proves, "auth.FinishDevice": proves, "auth.Resolve": proves, "auth.Acts": proves,
		"auth.ChangePassword": "takes the old password as proof", "auth.CSRF": "takes a cookie as proof", "auth.Leave": "takes a cookie as proof",
		"auth.Logout": "takes a provider's signed token as proof", "auth.JWKS": "public keys", "auth.EnsureAdmin": "the first start, before anybody can call",
		"auth.Run": "a loop of berthd's own",
	}
	asked := 0
	for name, engine := range map[string]any{
		"registry": s.registry, "project": s.project, "gc": s.gc, "scrub": s.scrub, "backup": s.backup, "auth": s.auth, "blueprint": s.blueprint(), "system": s.system(),
	} {
		v := reflect.ValueOf(engine)
		for i := range v.NumMethod() {
			method := name + "." + v.Type().Method(i).Name
			typ := v.Method(i).Type()
			if typ.NumIn() == 0 || typ.In(0) != reflect.TypeFor[context.Context]() {
				continue
			}
			if _, ok := open[method]; ok {
				delete(open, method)
				continue
			}
			asked++
			for who, ctx := range map[string]context.Context{
				"no principal": t.Context(), "a kind without rules": identity.With(t.Context(), identity.Principal{Kind: 99, Name: "mallory", Admin: true}),
			} {
				err := called(t, method, v.Method(i), ctx)
				if !fault.Is(err, fault.Denied) && (method != "registry.Base" || !fault.Is(err, fault.Unauthenticated)) {
					t.Errorf("%s, %s: %v; want a denial", method, who, err)
				}
			}
		}
	}
	for method, why := range open {
		t.Errorf("%s (%s) is not there any more", method, why)
	}
	if asked < 80 {
		t.Errorf("only %d methods were called", asked)
	}
}

// called returns the error of a method that gets the context and otherwise zero values.
func called(t *testing.T, name string, method reflect.Value, ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("%s looks at its arguments before it asks: %v", name, p)
		}
	}()
	args := []reflect.Value{reflect.ValueOf(ctx)}
	for i := 1; i < method.Type().NumIn(); i++ {
		args = append(args, reflect.Zero(method.Type().In(i)))
	}
	out := method.Call(args)
	err, _ = out[len(out)-1].Interface().(error)
	return err
}
