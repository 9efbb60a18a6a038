package cli

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/pkg/docker/config"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/cli/option"
	"github.com/berth-registry/berth/cli/output"
)

// finding is one thing that doctor looked at.
type finding struct {
	Check  string `json:"check"`
	State  string `json:"state"` // ok, warn, fail
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"`
}

// examination gathers findings.
type examination struct {
	a     *app
	sys   *types.SystemContext
	found []finding
}

func (e *examination) say(check, state, detail, fix string) {
	e.found = append(e.found, finding{check, state, detail, fix})
}

func doctorCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "doctor [flags] [HOST[:PORT]]", Short: a.t("find out why a registry cannot be reached or does not let you in", "诊断无法访问或登录仓库的原因"),
		Example: "berth doctor\nberth doctor registry.example.com", Args: a.args(0, 1),
	}
	shared := &option.Shared{}
	image := option.NewImage(shared, "")
	shared.AddFlags(c.Flags(), a.t)
	image.AddRegistryFlags(c.Flags(), a.t)
	format := a.formatFlag(c.Flags(), output.TableKind)
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		sys, err := a.system(image)
		if err != nil {
			return err
		}
		e := &examination{a: a, sys: sys}
		e.files()
		host := a.context.Registry
		if len(args) > 0 {
			host = args[0]
		}
		if host != "" {
			e.host(ctx, host)
		}
		table := output.Table{Header: []string{a.t("CHECK", "检查"), a.t("STATE", "状态"), a.t("DETAIL", "说明")}}
		failures := 0
		for _, f := range e.found {
			detail := a.lang.Say(f.Detail)
			if f.Fix != "" {
				detail += a.t("; ", "；") + f.Fix
			}
			table.Rows = append(table.Rows, []string{f.Check, f.State, detail})
			if f.State == "fail" {
				failures++
			}
		}
		if err := format.Print(a.Out, e.found, table); err != nil || failures == 0 {
			return err
		}
		return &output.Failure{What: fmt.Sprintf(a.t("%d of %d checks failed", "%d / %d 项检查失败"), failures, len(e.found)), Exit: e.exit()}
	})
	return c
}

// exit is the exit code by the first check that failed: that of a command which fails for the same reason.
func (e *examination) exit() int {
	for _, f := range e.found {
		if f.State != "fail" {
			continue
		}
		switch f.Check {
		case "name", "connection", "tls", "/v2/":
			return output.ExitNetwork
		case "login":
			return output.ExitAuth
		}
		return output.ExitFailure
	}
	return output.ExitFailure
}

// files looks at the files that the tool and its kin read.
func (e *examination) files() {
	t := e.a.t
	if all, err := config.GetAllCredentials(e.sys); err != nil {
		e.say("auth.json", "fail", err.Error(), t("mend or remove the file", "修复或删除该文件"))
	} else {
		e.say("auth.json", "ok", fmt.Sprintf(t("credentials for %d registries", "保存了 %d 个仓库的凭据"), len(all)), "")
	}
	e.helpers()
	if _, err := sysregistriesv2.GetRegistries(e.sys); err != nil {
		e.say("registries.conf", "fail", err.Error(), t("mend the file", "修复该文件"))
	} else {
		e.say("registries.conf", "ok", t("readable, or not there", "可读或不存在"), "")
	}
	policy, err := e.a.global.PolicyContext(e.sys)
	if err != nil {
		e.say("policy.json", "fail", err.Error(), t("mend the file, or name another with --policy", "修复该文件，或用 --policy 指定"))
		return
	}
	_ = policy.Destroy()
	if _, err := signature.DefaultPolicy(e.sys); err != nil && e.a.global.Policy == "" {
		e.say("policy.json", "warn", t("there is none: every image is accepted, and skopeo and podman refuse to work", "不存在：接受所有镜像，而 skopeo 与 podman 会拒绝工作"), "/etc/containers/policy.json")
		return
	}
	e.say("policy.json", "ok", t("readable", "可读"), "")
}

// helpers looks whether the credential helpers that docker's file names are installed.
func (e *examination) helpers() {
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return
		}
		dir = filepath.Join(home, ".docker")
	}
	text, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return
	}
	var c struct {
		CredsStore  string            `json:"credsStore"`
		CredHelpers map[string]string `json:"credHelpers"`
	}
	if json.Unmarshal(text, &c) != nil {
		return // auth.json said so
	}
	names := map[string]bool{}
	if c.CredsStore != "" {
		names[c.CredsStore] = true
	}
	for _, name := range c.CredHelpers {
		names[name] = true
	}
	for name := range names {
		if _, err := exec.LookPath("docker-credential-" + name); err != nil {
			e.say("helper "+name, "fail", e.a.t("config.json names it, and docker-credential-"+name+" is not installed", "config.json 引用了它，但未安装 docker-credential-"+name),
				e.a.t("install it, or take it out of the file", "安装它，或从文件中删除"))
		} else {
			e.say("helper "+name, "ok", "docker-credential-"+name, "")
		}
	}
}

// host goes the way of a request: name, connection, TLS, protocol, clock, where tokens come from, login.
func (e *examination) host(ctx context.Context, host string) {
	t := e.a.t
	address := host
	if _, _, err := net.SplitHostPort(host); err != nil {
		address = net.JoinHostPort(host, "443")
	}
	name, _, _ := net.SplitHostPort(address)
	addresses, err := net.DefaultResolver.LookupHost(ctx, name)
	if err != nil {
		e.say("name", "fail", err.Error(), t("look at the name, and at the network", "检查名称与网络"))
		return
	}
	e.say("name", "ok", strings.Join(addresses, " "), "")
	d := net.Dialer{Timeout: 5 * time.Second}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		e.say("connection", "fail", err.Error(), t("is the registry running, and is the port right? is a proxy needed (HTTPS_PROXY)?", "仓库是否在运行，端口是否正确？是否需要代理（HTTPS_PROXY）？"))
		return
	}
	_ = conn.Close()
	e.say("connection", "ok", address, "")
	_, known, err := e.a.authority(ctx, host)
	_, certErr := os.Stat(e.a.trustFile("podman", host))
	switch {
	case err != nil && strings.Contains(err.Error(), "server gave HTTP response"):
		e.say("tls", "fail", t("the registry speaks http only", "仓库只支持 http"), "--tls-verify=false")
		return
	case err != nil && strings.Contains(err.Error(), "does not look like a TLS handshake"):
		e.say("tls", "fail", t("what listens there speaks neither https nor http", "监听的服务既不是 https 也不是 http"), t("look at the host and the port", "检查主机与端口"))
		return
	case err != nil:
		e.say("tls", "fail", err.Error(), t("the registry needs another certificate: berthd cert new", "仓库需要新证书：berthd cert new"))
		return
	case known:
		e.say("tls", "ok", t("by an authority that this machine trusts", "由本机信任的机构签发"), "")
	case certErr == nil:
		e.say("tls", "ok", e.a.trustFile("podman", host), "")
	default:
		e.say("tls", "fail", t("by an authority that this machine does not know", "由本机不认识的机构签发"), "berth trust "+host)
	}
	e.ping(ctx, host, address)
	e.login(ctx, host)
}

// ping asks for /v2/, whatever the certificate is, and looks at what the answer says of itself.
func (e *examination) ping(ctx context.Context, host, address string) {
	t := e.a.t
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}} //nolint:gosec // no credentials are sent, and TLS was looked at before
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+"/v2/", nil)
	if err != nil {
		return
	}
	sent := e.a.now()
	resp, err := client.Do(req)
	if err != nil {
		e.say("/v2/", "fail", err.Error(), "")
		return
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK, http.StatusUnauthorized:
		e.say("/v2/", "ok", resp.Status, "")
	default:
		e.say("/v2/", "fail", t("it answers ", "返回 ")+resp.Status, t("is this a registry? a proxy before it may swallow the path", "这是镜像仓库吗？前置代理可能丢弃了路径"))
	}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		if off := date.Sub(sent).Abs(); off > time.Minute {
			e.say("clock", "warn", fmt.Sprintf(t("the clocks differ by %s", "时钟相差 %s"), off.Round(time.Second)), t("set the clock: tokens and certificates depend on it", "校准时钟：令牌与证书依赖它"))
		} else {
			e.say("clock", "ok", t("the clocks agree", "时钟一致"), "")
		}
	}
	for _, challenge := range resp.Header.Values("WWW-Authenticate") {
		_, rest, found := strings.Cut(challenge, `realm="`)
		realm, _, _ := strings.Cut(rest, `"`)
		u, err := url.Parse(realm)
		if !found || err != nil || !strings.HasPrefix(strings.ToLower(challenge), "bearer") {
			continue
		}
		switch {
		case u.Scheme == "http":
			e.say("realm", "fail", t("tokens are asked for over http: ", "令牌地址使用 http：")+realm, t("the registry does not know its own address: set http.host, or let the proxy send X-Forwarded-Proto", "仓库不知道自己的地址：设置 http.host，或让代理发送 X-Forwarded-Proto"))
		case u.Host != host && u.Host != address:
			e.say("realm", "warn", t("tokens come from another host: ", "令牌来自其他主机：")+u.Host, t("right for some registries; wrong when it is a name inside of a network", "某些仓库如此；若为内网名称则有误"))
		default:
			e.say("realm", "ok", realm, "")
		}
	}
}

// login tries the credentials that a pull would use, and says where they are from.
func (e *examination) login(ctx context.Context, host string) {
	t := e.a.t
	known, _, err := loginFor(e.sys, host, host)
	if err != nil {
		e.say("login", "fail", err.Error(), "")
		return
	}
	user, password := known.Username, known.Password
	if given := e.sys.DockerAuthConfig; given != nil {
		user, password = given.Username, given.Password
	}
	if user == "" {
		e.say("login", "warn", t("nobody is signed in: only what is public can be read", "未登录：只能读取公开内容"), "berth login "+host)
		return
	}
	var wrong docker.ErrUnauthorizedForCredentials
	err = e.a.checkAuth(ctx, e.sys, user, password, host)
	switch {
	case err == nil:
		e.say("login", "ok", user, "")
	case errors.As(err, &wrong):
		e.say("login", "fail", t("the registry does not accept the password of "+user, "仓库不接受 "+user+" 的密码"), "berth login "+host)
	default:
		e.say("login", "fail", e.a.classify(ctx, err).Error(), "")
	}
}
