package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/image/remote"
)

// login is what was found to log in with, and until when it is not looked for again.
type login struct {
	remote.Credentials
	until time.Time
}

// remembered is how long files and helpers are not asked again: a transfer of many layers wants its login for each of them, and
// a helper may take a second for it. What it gives lives for minutes at least.
const remembered = time.Minute

// credentials are those of a flag, else what auth.json, docker's config and helpers know. Their source says in the user's language
// who it is and where that stands, or that it is nobody and where was looked; never a secret.
func (r *reach) credentials(_ context.Context, host, repository string) (remote.Credentials, error) {
	ours := r.home == "" || r.home == host
	if r.sys.DockerBearerRegistryToken != "" && ours {
		return remote.Credentials{Registry: r.sys.DockerBearerRegistryToken, Source: r.t("the token of --registry-token", "--registry-token 的令牌")}, nil
	}
	if auth := r.sys.DockerAuthConfig; auth != nil && ours {
		c := credentialsOf(*auth)
		c.Source = fmt.Sprintf(r.t("user %s, as the command says (--creds, --username, or the file of a sync)", "用户 %s，由命令指定（--creds、--username 或同步文件）"), c.User)
		if c.None() {
			c.Source = r.t("nobody, as --no-creds says", "匿名（--no-creds）")
		}
		return c, nil
	}
	key := host
	if repository != "" {
		key += "/" + repository
	}
	r.asking.Lock()
	defer r.asking.Unlock()
	if l, ok := r.logins[key]; ok && r.now().Before(l.until) {
		return l.Credentials, nil
	}
	sys := *r.sys
	sys.DockerAuthConfig = nil // what the library would answer for every host
	auth, store, err := loginFor(&sys, host, key)
	if err != nil {
		return remote.Credentials{}, err
	}
	c := credentialsOf(auth)
	c.Source = r.source(&sys, host, key, c, store)
	if r.logins == nil {
		r.logins = map[string]login{}
	}
	r.logins[key] = login{c, r.now().Add(remembered)}
	return c, nil
}

func credentialsOf(auth types.DockerAuthConfig) remote.Credentials {
	return remote.Credentials{User: auth.Username, Password: auth.Password, Refresh: auth.IdentityToken}
}

// source finds out where credentials come from, which the library that finds them does not say: it looks for their entry in the
// same files in the same order.
func (r *reach) source(sys *types.SystemContext, host, key string, c remote.Credentials, store *dockerStore) string {
	files := authFiles(sys)
	if store != nil && store.failed != nil {
		return fmt.Sprintf(r.t("nobody: the credential helper %s, which %s names, failed (%v)", "匿名：凭据助手 %s（%s 指定）出错（%v）"), store.name, store.file, errors.Unwrap(store.failed))
	}
	if c.None() {
		return fmt.Sprintf(r.t("nobody: there is no login for %s in %s", "匿名：%s 的登录信息不在 %s 中"), host, strings.Join(files, ", "))
	}
	who := fmt.Sprintf(r.t("user %s, from ", "用户 %s，来自 "), c.User)
	if c.User == "" {
		who = r.t("an identity token, from ", "身份令牌，来自 ")
	}
	if store != nil {
		return who + fmt.Sprintf(r.t("the credential helper %s, which %s names", "凭据助手 %s（%s 指定）"), store.name, store.file)
	}
	for _, file := range files {
		helper, ok := entryOf(file, host, key)
		switch {
		case !ok:
		case helper != "":
			return who + fmt.Sprintf(r.t("the credential helper %s, which %s names", "凭据助手 %s（%s 指定）"), helper, file)
		default:
			return who + file + r.written(file)
		}
	}
	helpers, _ := sysregistriesv2.CredentialHelpers(sys) // it could be read a moment ago
	return who + fmt.Sprintf(r.t("the credential helpers of registries.conf (%s)", "registries.conf 的凭据助手（%s）"), strings.Join(helpers, ", "))
}

// written is how old a file is.
func (r *reach) written(file string) string {
	info, err := os.Stat(file)
	if err != nil {
		return ""
	}
	return fmt.Sprintf(r.t(" (written %s)", "（写入于 %s）"), info.ModTime().Format(time.DateOnly))
}

// authFiles are the files that logins are looked for in, in this order, as the library does it.
func authFiles(sys *types.SystemContext) []string {
	for _, file := range []string{sys.AuthFilePath, sys.DockerCompatAuthFilePath, sys.LegacyFormatAuthFilePath} {
		if file != "" {
			return []string{file}
		}
	}
	home, _ := os.UserHomeDir() // without one the paths lead nowhere, and nothing is found there
	first := fmt.Sprintf("/run/containers/%d/auth.json", os.Getuid())
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		first = filepath.Join(dir, "containers/auth.json")
	}
	conf := os.Getenv("XDG_CONFIG_HOME")
	if conf == "" {
		conf = filepath.Join(home, ".config")
	}
	docker := os.Getenv("DOCKER_CONFIG")
	if docker == "" {
		docker = filepath.Join(home, ".docker")
	}
	return []string{first, filepath.Join(conf, "containers/auth.json"), filepath.Join(docker, "config.json"), filepath.Join(home, ".dockercfg")}
}

// entryOf reports whether a file of logins has an entry for a key (a host and the repository, or a namespace of it), and which
// helper it names for the host; "" is none.
func entryOf(file, host, key string) (helper string, ok bool) {
	body, err := readFile(file, 16<<20)
	if err != nil {
		return "", false
	}
	var doc struct {
		Auths   map[string]json.RawMessage `json:"auths"`
		Helpers map[string]string          `json:"credHelpers"`
	}
	if filepath.Base(file) == ".dockercfg" { // of old, without a key around it
		err = json.Unmarshal(body, &doc.Auths)
	} else {
		err = json.Unmarshal(body, &doc)
	}
	if err != nil {
		return "", false
	}
	if helper, ok := doc.Helpers[host]; ok {
		return helper, true
	}
	for {
		if _, ok := doc.Auths[key]; ok {
			return "", true
		}
		i := strings.LastIndexByte(key, '/')
		if i < 0 {
			break
		}
		key = key[:i]
	}
	for name := range doc.Auths { // docker wrote addresses once
		name = strings.TrimPrefix(strings.TrimPrefix(name, "https://"), "http://")
		name, _, _ = strings.Cut(name, "/")
		if address(name) == address(host) {
			return "", true
		}
	}
	return "", false
}

// address is one name for the host that has three.
func address(host string) string {
	switch host {
	case "index.docker.io", "registry-1.docker.io":
		return "docker.io"
	}
	return host
}
