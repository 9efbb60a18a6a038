package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/docker/config"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/types"
	"golang.org/x/term"

	"github.com/berth-registry/berth/cli/option"
	"github.com/berth-registry/berth/cli/output"
)

// account are the flags of login and logout: where credentials are kept, and what of the registry is trusted.
type account struct {
	authFile, compatFile, certDir string
	tlsVerify                     types.OptionalBool
	username, password            string
	stdin, getLogin, verbose, all bool
	device                        bool
	provider                      string
}

func (o *account) addFlags(f *pflag.FlagSet, a *app) {
	f.StringVar(&o.authFile, "authfile", os.Getenv("REGISTRY_AUTH_FILE"), a.t("credentials `FILE` to write, and to read", "要读写的凭据文件"))
	f.StringVar(&o.compatFile, "compat-auth-file", "", a.t("write to this docker `FILE` (config.json) in its place", "改为写入 docker 的 config.json 文件"))
	option.OptionalBool(f, &o.tlsVerify, "tls-verify", a.t("require https and a trusted certificate (default true)", "要求 https 与受信任的证书（默认 true）"))
}

func (o *account) system(a *app) (*types.SystemContext, error) {
	sys, err := a.global.System(version)
	if err != nil {
		return nil, err
	}
	if o.compatFile != "" && o.authFile != "" && os.Getenv("REGISTRY_AUTH_FILE") != o.authFile {
		return nil, output.Usage("--authfile and --compat-auth-file contradict each other")
	}
	sys.DockerCertPath = o.certDir
	if o.compatFile != "" {
		sys.DockerCompatAuthFilePath = o.compatFile
	} else if o.authFile != "" {
		sys.AuthFilePath = o.authFile
	}
	if o.tlsVerify != types.OptionalBoolUndefined {
		sys.DockerInsecureSkipTLSVerify = types.NewOptionalBool(o.tlsVerify == types.OptionalBoolFalse)
	}
	return sys, nil
}

func loginCommand(a *app) *cobra.Command {
	o := &account{}
	c := &cobra.Command{
		Use: "login [flags] [REGISTRY]", Short: a.t("sign in to a registry, for podman, skopeo and buildah too", "登录仓库，podman、skopeo、buildah 同样可用"),
		Example: "berth login -u admin registry.example.com\necho $TOKEN | berth login -u robot --password-stdin registry.example.com\nberth login --device registry.example.com",
		Args:    a.args(0, 1),
	}
	f := c.Flags()
	o.addFlags(f, a)
	f.StringVar(&o.certDir, "cert-dir", "", a.t("`DIR` with *.crt, *.cert and *.key for the registry", "包含 *.crt、*.cert、*.key 的目录"))
	f.StringVarP(&o.username, "username", "u", "", a.t("`USERNAME`", "用户名"))
	f.StringVarP(&o.password, "password", "p", "", a.t("`PASSWORD`; others on this machine may see it, use --password-stdin", "密码；本机其他用户可能看到，建议使用 --password-stdin"))
	f.BoolVar(&o.stdin, "password-stdin", false, a.t("read the password from standard input", "从标准输入读取密码"))
	f.BoolVar(&o.getLogin, "get-login", false, a.t("print who is signed in", "显示已登录的用户"))
	f.BoolVarP(&o.verbose, "verbose", "v", false, a.t("say where the credentials are kept", "显示凭据存放的位置"))
	f.BoolVar(&o.device, "device", false, a.t("sign in at an identity provider with a browser, on this machine or another", "用任意设备的浏览器在身份提供方登录"))
	f.StringVar(&o.provider, "provider", "", a.t("identity provider `NAME` for --device, where there are several", "有多个身份提供方时，--device 使用的提供方名称"))
	option.Refuse(f, "secret", "", "podman keeps secrets for its containers, and berth has none", false)
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		sys, err := o.system(a)
		if err != nil {
			return err
		}
		key, host, err := a.registryKey(sys, args)
		if err != nil {
			return err
		}
		return failed(a.login(ctx, o, sys, key, host), a.t("cannot sign in to %s", "无法登录 %s"), key)
	})
	return c
}

func (a *app) login(ctx context.Context, o *account, sys *types.SystemContext, key, host string) error {
	known, _, err := loginFor(sys, host, key)
	if err != nil {
		return err
	}
	if o.device && (o.stdin || o.username != "" || o.password != "") || o.provider != "" && !o.device {
		return output.Usage("%s", a.t("--device takes the place of --username and --password, and --provider belongs to it", "--device 代替 --username 与 --password；--provider 须与其同用"))
	}
	if o.getLogin {
		if known.Username == "" {
			return &output.Failure{What: a.t("nobody is signed in to "+key, "未登录 "+key), Exit: output.ExitFailure}
		}
		_, err := fmt.Fprintln(a.Out, known.Username)
		return err
	}
	if known.IdentityToken != "" {
		return errors.New(a.t("an identity token is kept for it, and those are only for docker login", "已保存身份令牌，仅支持 docker login"))
	}
	var user, password string
	if o.device {
		user, password, err = a.deviceLogin(ctx, sys, host, o.provider)
	} else {
		user, password, err = a.askAccount(o, known)
	}
	if err != nil {
		return err
	}
	if user == "" || password == "" { // the registry would be asked as nobody, and might well answer
		return output.Usage("%s", a.t("the username or the password is empty", "用户名或密码为空")).WithFix("--username NAME --password-stdin")
	}
	if err := a.checkAuth(ctx, sys, user, password, host); err != nil {
		f := a.classify(ctx, err)
		if f.Exit == output.ExitAuth { // to sign in is what was tried
			f.What, f.Why = f.Why, ""
			f.Fix = fmt.Sprintf(a.t("compare both with what the registry knows of %s; where it has tokens, a token takes the place of the password", "请核对 %s 的用户名与密码；若仓库使用令牌，请以令牌代替密码"), user)
			return f
		}
		return err
	}
	var where string
	if s := compatStore(sys, host); s != nil && key == host {
		where, err = "docker-credential-"+s.name, s.put(host, user, password)
	} else {
		where, err = config.SetCredentials(sys, key, user, password)
	}
	if err != nil {
		return fmt.Errorf("credentials cannot be kept: %w", err)
	}
	if o.verbose {
		fmt.Fprintln(a.Out, a.t("Used: ", "已写入：")+where)
	}
	_, err = fmt.Fprintln(a.Out, a.t("Login Succeeded!", "登录成功！"))
	return err
}

// askAccount takes the username and password from flags, standard input, what is known, and the terminal, in this order.
func (a *app) askAccount(o *account, known types.DockerAuthConfig) (user, password string, err error) {
	if o.stdin {
		if o.password != "" {
			return "", "", output.Usage("--password and --password-stdin contradict each other")
		}
		if o.username == "" {
			return "", "", output.Usage("--password-stdin needs --username")
		}
		text, err := io.ReadAll(io.LimitReader(a.In, 1<<20))
		if err != nil {
			return "", "", err
		}
		return o.username, strings.TrimRight(string(text), "\r\n"), nil
	}
	user, password = o.username, o.password
	in := bufio.NewReader(a.In)
	if user == "" {
		offer := ""
		if known.Username != "" {
			offer = " (" + known.Username + ")"
		}
		fmt.Fprint(a.Err, a.t("Username", "用户名")+offer+a.t(": ", "："))
		line, err := in.ReadString('\n')
		if err != nil && line == "" {
			return "", "", output.Usage("%s", a.t("no username was given", "未提供用户名")).WithFix("--username NAME --password-stdin")
		}
		if user = strings.TrimSpace(line); user == "" {
			user = known.Username
		}
	}
	if password == "" {
		fmt.Fprint(a.Err, a.t("Password: ", "密码："))
		password, err = a.readSecret(in)
		fmt.Fprintln(a.Err)
		if err != nil {
			return "", "", err
		}
	}
	return user, password, nil
}

// readSecret reads a line without showing it when it comes from a terminal.
func (a *app) readSecret(in *bufio.Reader) (string, error) {
	if f, ok := a.In.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		b, err := term.ReadPassword(int(f.Fd()))
		return string(b), err
	}
	line, err := in.ReadString('\n')
	if err != nil && line == "" {
		return "", output.Usage("%s", a.t("no password was given", "未提供密码")).WithFix("--password-stdin")
	}
	return strings.TrimRight(line, "\r\n"), nil
}

func logoutCommand(a *app) *cobra.Command {
	o := &account{}
	c := &cobra.Command{
		Use: "logout [flags] [REGISTRY]", Short: a.t("forget the credentials for a registry", "删除仓库的登录凭据"),
		Example: "berth logout registry.example.com\nberth logout --all",
		Args:    a.args(0, 1),
	}
	o.addFlags(c.Flags(), a)
	c.Flags().BoolVarP(&o.all, "all", "a", false, a.t("forget those of all registries", "删除所有仓库的凭据"))
	c.RunE = a.run(func(_ context.Context, args []string) error {
		sys, err := o.system(a)
		if err != nil {
			return err
		}
		if o.all {
			if len(args) > 0 {
				return output.Usage("%s", a.t("--all takes no registry", "--all 不能与仓库同时使用"))
			}
			if err := config.RemoveAllAuthentication(sys); err != nil {
				return err
			}
			_, err := fmt.Fprintln(a.Out, a.t("Removed login credentials for all registries", "已删除所有仓库的登录凭据"))
			return err
		}
		key, host, err := a.registryKey(sys, args)
		if err != nil {
			return err
		}
		if s := compatStore(sys, host); s != nil && key == host {
			was, err := s.drop(host)
			if err != nil {
				return failed(err, a.t("cannot sign out of %s", "无法退出 %s"), key)
			}
			if was {
				_, err = fmt.Fprintf(a.Out, a.t("Removed login credentials for %s\n", "已删除 %s 的登录凭据\n"), key)
				return err
			}
		}
		switch err := config.RemoveAuthentication(sys, key); {
		case errors.Is(err, config.ErrNotLoggedIn):
			return &output.Failure{What: a.t("nobody is signed in to "+key, "未登录 "+key), Exit: output.ExitFailure, Cause: err}
		case err != nil:
			return failed(err, a.t("cannot sign out of %s", "无法退出 %s"), key)
		}
		_, err = fmt.Fprintf(a.Out, a.t("Removed login credentials for %s\n", "已删除 %s 的登录凭据\n"), key)
		return err
	})
	return c
}

// registryKey is under which name credentials are kept (a host, or a host and a namespace), and the host. Without an
// argument it is the registry of the context, or the first that registries.conf searches.
func (a *app) registryKey(sys *types.SystemContext, args []string) (key, host string, err error) {
	if len(args) == 0 && a.context.Registry != "" {
		return a.context.Registry, a.context.Registry, nil
	}
	if len(args) == 0 {
		search, err := sysregistriesv2.UnqualifiedSearchRegistries(sys)
		if err != nil {
			return "", "", err
		}
		if len(search) == 0 {
			return "", "", output.Usage("no registry was named, and registries.conf searches none").WithFix("berth login HOST")
		}
		return search[0], search[0], nil
	}
	key = args[0]
	if strings.HasPrefix(key, "https://") || strings.HasPrefix(key, "http://") {
		u, err := url.Parse(key)
		if err != nil || u.Host == "" {
			return "", "", output.Usage("%q is no address of a registry", key)
		}
		return u.Host, u.Host, nil
	}
	host, _, namespaced := strings.Cut(key, "/")
	if host == "" {
		return "", "", output.Usage("%q is no name of a registry", key)
	}
	if namespaced {
		named, err := reference.ParseNormalizedNamed(key)
		if err != nil || !reference.IsNameOnly(named) {
			return "", "", output.Usage("%q is neither a registry nor a namespace of one", key)
		}
	}
	return key, host, nil
}
