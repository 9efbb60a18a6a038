package config

import (
	"crypto/tls"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// finish fills in what follows from other keys, then checks every value and every rule that looks at
// more than one key. root is the file, nil without one.
func (d *decoder) finish(c *Config, root *yaml.Node) {
	if c.Storage.Driver() == "" && !d.failed("storage") {
		c.Storage.Filesystem = Defaults().Storage.Filesystem
	}
	foreign := isDistributionFile(root)
	d.keepDistributionRules(c, foreign)
	d.derive(c)
	d.checkChoices(c)
	d.checkValues(c)
	d.checkSupport(c)
	d.checkS3(c)
	d.checkTLS(c)
	d.checkTokenServer(c.Auth.Token)
	d.checkListeners(c)
	d.checkEndpoints(c)
	d.checkGC(c)
	d.checkRepairs(c)
	d.checkIdentities(c)
}

// isDistributionFile tells a file written for distribution from one of ours: distribution requires
// version, and knows no berth section. Such a file keeps distribution's defaults where ours would
// change what clients may do.
func isDistributionFile(root *yaml.Node) bool {
	return root != nil && hasKey(root, "version") && !hasKey(root, "berth")
}

// keepDistributionRules applies distribution's defaults to a file of distribution, and its rules for
// accounts also when REGISTRY_AUTH_* variables bring the htpasswd file.
func (d *decoder) keepDistributionRules(c *Config, foreign bool) {
	name := Origin{Source: "derived", Name: "the defaults of distribution"}
	if foreign && !d.said("storage.delete.enabled") {
		c.Storage.Delete.Enabled = false
		d.origins["storage.delete.enabled"] = name
	}
	if c.Auth.Token != nil && !d.said("auth.anonymous") { // who may pull without a login, that server says
		c.Auth.Anonymous, d.origins["auth.anonymous"] = "none", name
	}
	defer d.deriveRights(c)
	htpasswd, _ := place(d.origins, "auth.htpasswd")
	if c.Auth.Htpasswd != nil && (foreign || strings.HasPrefix(htpasswd.Name, "REGISTRY_")) {
		if !d.said("auth.anonymous") {
			c.Auth.Anonymous, d.origins["auth.anonymous"] = "none", name
		}
		if !d.said("auth.users") {
			c.Auth.Users, d.origins["auth.users"] = "delete", name
		}
	} else if foreign && !c.Auth.asks() && !d.said("auth.anonymous") {
		d.warn("auth", "no auth section: distribution lets everyone push; here everyone may pull public projects and a login is needed to push. To open it, add \"auth: {anonymous: delete}\" or set BERTH_ANONYMOUS=delete")
	}
}

// asks reports whether the section names somebody who proves identities.
func (a *Auth) asks() bool {
	return a.Htpasswd != nil || a.Token != nil || len(a.LDAP)+len(a.OIDC)+len(a.MTLS.CAs)+len(a.SPIFFE.Bundles) > 0 || a.SPIFFE.WorkloadAPI != ""
}

// deriveRights completes what follows from what was said: accounts of an htpasswd file may push everywhere, as they could before
// there were roles, and whoever may push everywhere may also push to a project that is not there yet.
func (d *decoder) deriveRights(c *Config) {
	if c.Auth.Htpasswd != nil && !d.said("auth.users") && c.Auth.Users == "none" {
		c.Auth.Users, d.origins["auth.users"] = "push", Origin{Source: "derived", Name: "auth.htpasswd"}
	}
	pushes := func(level string) bool { return level == "push" || level == "delete" }
	if d.said("berth.projects.autocreate") {
		return
	}
	for _, key := range []struct{ name, level string }{{"auth.users", c.Auth.Users}, {"auth.anonymous", c.Auth.Anonymous}} {
		if pushes(key.level) {
			c.Berth.Projects.AutoCreate, d.origins["berth.projects.autocreate"] = "users", Origin{Source: "derived", Name: key.name}
		}
	}
}

// checkChoices refuses two storage drivers or auth providers that different variables named.
func (d *decoder) checkChoices(c *Config) {
	walk(reflect.ValueOf(c).Elem(), "", func(key string, f field, v reflect.Value) bool {
		what, names := choiceOf(f.Type)
		chosen := slices.DeleteFunc(names, func(name string) bool {
			choice, _ := findField(f.Type, name)
			return v.FieldByIndex(choice.Index).IsNil()
		})
		if len(chosen) > 1 && !d.failed(key) {
			first, _ := place(d.origins, join(key, chosen[0]))
			d.refuse(join(key, chosen[1]), "this names the %s %s, and %s names %s; keep one", what, chosen[1], first, chosen[0])
		}
		return true
	})
}

// derive fills in keys that follow from others.
func (d *decoder) derive(c *Config) {
	derived := func(from string) Origin { return Origin{Source: "derived", Name: from} }
	if c.Loglevel != "" && !d.said("log.level") {
		c.Log.Level = c.Loglevel
		d.origins["log.level"] = derived("loglevel")
	}
	if c.Log.Formatter == "logstash" {
		c.Log.Formatter = "json"
		d.warn("log.formatter", "log.formatter: logstash is written as json")
	}
	if f := c.Storage.Filesystem; f != nil {
		if f.RootDirectory != "" && !d.said("berth.data") {
			c.Berth.Data = f.RootDirectory
			d.origins["berth.data"] = derived("storage.filesystem.rootdirectory")
		} else if f.RootDirectory == "" {
			f.RootDirectory = c.Berth.Data
			d.origins["storage.filesystem.rootdirectory"] = derived("berth.data")
		}
	}
	acme, le := &c.Berth.ACME, c.HTTP.TLS.LetsEncrypt
	if acme.Email == "" && le.Email != "" {
		acme.Email, acme.Directory, acme.Hosts = le.Email, le.DirectoryURL, le.Hosts
		d.origins["berth.acme"] = derived("http.tls.letsencrypt")
	}
	if acme.Email != "" && len(acme.Hosts) == 0 && c.HTTP.Hostname() != "" {
		acme.Hosts = []string{c.HTTP.Hostname()}
		d.origins["berth.acme.hosts"] = derived("http.host")
	}
}

// said reports whether somebody set the key.
func (d *decoder) said(key string) bool {
	_, ok := place(d.origins, key)
	return ok
}

// failed reports whether there is a problem with the key already, so that what follows from it need
// not be said.
func (d *decoder) failed(key string) bool {
	for _, p := range d.problems {
		if p.Key == key || strings.HasPrefix(p.Key, key+".") || strings.HasPrefix(p.Key, key+"[") {
			return true
		}
	}
	return false
}

// refused reports whether there is a problem with the key itself, and not with a part of it.
func (d *decoder) refused(key string) bool {
	return slices.ContainsFunc(d.problems, func(p Problem) bool { return p.Key == key })
}

// misspelt reports whether the key may have been said in a way that could not be read: with a value that is none, or
// under a name like it.
func (d *decoder) misspelt(name, section string) bool {
	return d.failed(join(section, name)) ||
		slices.ContainsFunc(d.problems, func(p Problem) bool { return p.Suggestion == name && strings.HasPrefix(p.Key, section+".") })
}

// about is a problem with a key, placed where the key was said, or else the nearest section around it.
func (d *decoder) about(key, format string, args ...any) Problem {
	o, ok := place(d.origins, key)
	for around := key; !ok && around != ""; {
		around = around[:max(0, strings.LastIndexAny(around, ".["))]
		o, ok = d.origins[around]
	}
	if !ok {
		o.Name = d.file
	}
	return Problem{File: o.Name, Line: o.Line, Col: o.Col, Key: key, Message: fmt.Sprintf(format, args...)}
}

func (d *decoder) refuse(key, format string, args ...any) {
	d.problems = append(d.problems, d.about(key, format, args...))
}

func (d *decoder) warn(key, format string, args ...any) {
	p := d.about(key, format, args...)
	p.Warning = true
	d.warnings = append(d.warnings, p)
}

// checkSupport names every key that was set and that this version does not act on.
func (d *decoder) checkSupport(c *Config) {
	d.unsupported(reflect.ValueOf(c).Elem(), reflect.ValueOf(Defaults()).Elem(), "")
}

func (d *decoder) unsupported(v, def reflect.Value, key string) {
	for _, f := range fieldsOf(v.Type()) {
		child, childDefault, childKey := v.FieldByIndex(f.Index), def.FieldByIndex(f.Index), join(key, f.name)
		if how := f.tag("unsupported"); how != "" {
			if isActive(child, childDefault) {
				d.notSupported(f, childKey, how)
			}
			continue
		}
		if child.Kind() == reflect.Pointer {
			if child.IsNil() {
				continue
			}
			if child = child.Elem(); childDefault.IsNil() {
				childDefault = reflect.New(child.Type())
				setDefaults(childDefault.Elem())
			}
			childDefault = childDefault.Elem()
		}
		if isSection(child.Type()) {
			d.unsupported(child, childDefault, childKey)
		}
	}
}

func (d *decoder) notSupported(f field, key, how string) {
	subject := key
	if what := f.tag("choice"); what != "" {
		subject = what + " " + f.name
	}
	message := subject + " is not supported in this version"
	if effect := f.tag("effect"); effect != "" {
		message += ": " + effect
	}
	if how == "warn" {
		d.warn(key, "%s", message)
	} else {
		d.refuse(key, "%s", message)
	}
}

// isActive reports whether a value asks for something: it differs from the default, and is not a list
// of entries that are all switched off.
func isActive(v, def reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer:
		return !v.IsNil()
	case reflect.Slice:
		for i := range v.Len() {
			if !isSwitchedOff(v.Index(i)) {
				return true
			}
		}
		return false
	case reflect.Map:
		for _, k := range v.MapKeys() {
			if isActive(v.MapIndex(k), reflect.Zero(v.Type().Elem())) {
				return true
			}
		}
		return false
	case reflect.Struct:
		if isSection(v.Type()) {
			for i := range v.NumField() {
				if isActive(v.Field(i), def.Field(i)) {
					return true
				}
			}
			return false
		}
	}
	return !reflect.DeepEqual(v.Interface(), def.Interface())
}

func isSwitchedOff(v reflect.Value) bool {
	if !isSection(v.Type()) {
		return false
	}
	disabled := v.FieldByName("Disabled")
	return disabled.IsValid() && disabled.Bool()
}

func (d *decoder) checkTLS(c *Config) {
	t, acme := c.HTTP.TLS, c.Berth.ACME
	switch {
	case t.Certificate != "" && t.Key == "":
		d.refuse("http.tls.certificate", "http.tls.certificate is set, but http.tls.key is not; both are needed, or neither")
	case t.Key != "" && t.Certificate == "":
		d.refuse("http.tls.key", "http.tls.key is set, but http.tls.certificate is not; both are needed, or neither")
	case t.Certificate != "" && acme.Email != "":
		d.warn("berth.acme.email", "http.tls.certificate is set, so ACME is not used")
	case acme.Email != "" && len(acme.Hosts) == 0:
		d.refuse("berth.acme.email", "ACME needs a name to ask a certificate for; set http.host (--host registry.example.com)")
	}
	d.normalizeTLS(&c.HTTP.TLS)
}

// checkTokenServer wants what is needed to tell a token of another server from a forged one.
func (d *decoder) checkTokenServer(t *Token) {
	switch {
	case t == nil:
	case t.Realm == "" && !t.AutoRedirect:
		d.refuse("auth.token", "auth.token: realm is needed, or autoredirect: clients have to be told where to get a token")
	case t.RootCertBundle == "" && t.JWKS == "":
		d.refuse("auth.token", "auth.token: rootcertbundle or jwks is needed: without keys no token can be told from a forged one")
	case t.Issuer == "berth":
		d.refuse("auth.token.issuer", "auth.token.issuer: berth is the issuer of this registry's own tokens; give the token server another name")
	}
}

// normalizeTLS leaves only what a listener of today offers.
func (d *decoder) normalizeTLS(t *TLS) {
	if t.MinimumTLS == "tls1.0" || t.MinimumTLS == "tls1.1" {
		d.warn("http.tls.minimumtls", "http.tls.minimumtls: %s is broken and withdrawn (RFC 8996) and not offered; tls1.2, which every registry client speaks, is used", t.MinimumTLS)
		t.MinimumTLS = "tls1.2"
	}
	switch {
	case t.ClientAuth == "request-client-cert" || t.ClientAuth == "require-any-client-cert":
		d.refuse("http.tls.clientauth", "http.tls.clientauth: %s accepts certificates of anyone and is not supported in this version; use verify-client-cert-if-given or require-and-verify-client-cert", t.ClientAuth)
	case len(t.ClientCAs) == 0 && t.ClientAuth != "":
		d.warn("http.tls.clientauth", "http.tls.clientauth has no effect without http.tls.clientcas, as in distribution")
		t.ClientAuth = ""
	case len(t.ClientCAs) > 0 && t.ClientAuth == "":
		t.ClientAuth = "require-and-verify-client-cert"
		d.origins["http.tls.clientauth"] = Origin{Source: "derived", Name: "http.tls.clientcas"}
	}
	insecure := tls.InsecureCipherSuites()
	t.CipherSuites = slices.DeleteFunc(slices.Clone(t.CipherSuites), func(name string) bool {
		broken := slices.ContainsFunc(insecure, func(s *tls.CipherSuite) bool { return s.Name == name })
		if broken {
			d.warn("http.tls.ciphersuites", "http.tls.ciphersuites: %s is broken and not offered", name)
		}
		return broken || isTLS13(name) // those of TLS 1.3 are always on; distribution lists them too
	})
}

func isTLS13(name string) bool {
	return slices.ContainsFunc(tls.CipherSuites(), func(s *tls.CipherSuite) bool {
		return s.Name == name && !slices.Contains(s.SupportedVersions, tls.VersionTLS12)
	})
}

// checkListeners refuses two listeners on one port.
func (d *decoder) checkListeners(c *Config) {
	if c.HTTP.Debug.Addr == "" || d.failed("http.addr") || d.failed("http.debug.addr") {
		return
	}
	host, port, err := net.SplitHostPort(c.HTTP.Addr)
	debugHost, debugPort, debugErr := net.SplitHostPort(c.HTTP.Debug.Addr)
	if err != nil || debugErr != nil || port != debugPort || port == "0" {
		return
	}
	if host == debugHost || isWildcard(host) || isWildcard(debugHost) {
		d.refuse("http.debug.addr", "http.debug.addr %q has the port of http.addr %q; give it another one", c.HTTP.Debug.Addr, c.HTTP.Addr)
	}
}

func isWildcard(host string) bool { return host == "" || host == "0.0.0.0" || host == "::" }
