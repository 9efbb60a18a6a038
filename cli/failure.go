package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"github.com/docker/distribution/registry/api/errcode"
	v2 "github.com/docker/distribution/registry/api/v2"
	"github.com/spf13/cobra"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	ociarchive "go.podman.io/image/v5/oci/archive"
	liblayout "go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/signature"

	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/layout"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/image/sign"
)

// errTimeout is why a context ended that --command-timeout bounds.
var errTimeout = errors.New("the time of --command-timeout is over")

// failed says what a command could not do; err is why. The failure of err, when it has one, keeps its why, fix and code.
func failed(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &attempt{what: fmt.Sprintf(format, args...), cause: err}
}

// about puts the name of a file before what a fault says of its content.
func about(name string, err error) error {
	var e *fault.Error
	if !errors.As(err, &e) || strings.HasPrefix(e.Message, name) || strings.Contains(e.Message, " "+name+" ") { // it says so itself
		return err
	}
	c := *e
	c.Message = name + ": " + e.Message
	return &c
}

// attempt is an error with what was tried.
type attempt struct {
	what  string
	cause error
}

func (e *attempt) Error() string { return e.what + ": " + e.cause.Error() }
func (e *attempt) Unwrap() error { return e.cause }

// failure makes of an error what a person sees, and the exit code.
func (a *app) failure(ctx context.Context, cmd *cobra.Command, err error) *output.Failure {
	if errors.Is(err, errUnknownCommand) {
		return a.unknownCommand(cmd)
	}
	f := a.classify(ctx, err)
	var what *attempt
	if errors.As(err, &what) {
		var own *output.Failure
		switch {
		case f.Why == "":
			f.Why = strings.TrimPrefix(f.What, what.what+": ")
		case errors.As(err, &own):
			f.Why = a.lang.Say(f.What) + a.t(": ", "：") + a.lang.Say(f.Why)
		}
		f.What = what.what
	} else if f.Why == f.What { // nothing says what was tried: once is enough
		f.Why = ""
	}
	if near := a.nearby(ctx, f, err); near != "" {
		f.Fix = a.meant(near)
	}
	return f
}

// meant asks whether something else was meant.
func (a *app) meant(near string) string {
	return a.t("did you mean ", "是否想输入 ") + near + a.t("?", "？")
}

// unknownCommand says which command is near the word that is none.
func (a *app) unknownCommand(cmd *cobra.Command) *output.Failure {
	word := ""
	if args := cmd.Flags().Args(); len(args) > 0 {
		word = args[0]
	}
	var names []string
	for _, c := range cmd.Commands() {
		names = append(names, c.Name())
	}
	f := output.Usage(a.t("%s has no command %s", "%s 没有命令 %s"), cmd.CommandPath(), word)
	if near := output.Closest(word, names); near != "" {
		return f.WithFix("%s", a.meant(cmd.CommandPath()+" "+near))
	}
	return f.WithFix("%s%s --help", a.t("see ", "参见 "), cmd.CommandPath())
}

// classify finds the kind of an error by its type; only where a library gives none, by its text.
func (a *app) classify(ctx context.Context, err error) *output.Failure {
	var own *output.Failure
	if errors.As(err, &own) {
		c := *own
		return &c
	}
	f := &output.Failure{What: innermost(err), Exit: output.ExitFailure, Cause: err}
	switch {
	case errors.Is(context.Cause(ctx), context.Canceled) && errors.Is(err, context.Canceled):
		f.What, f.Exit = a.t("interrupted", "已中断"), output.ExitInterrupted
		return f
	case errors.Is(err, errTimeout), errors.Is(err, context.DeadlineExceeded):
		f.What, f.Exit = a.t("not done in time", "未在时限内完成"), output.ExitInterrupted
		return f
	}
	for _, try := range []func(*output.Failure, error) bool{a.ofRefusal, a.ofFault, a.ofPolicy, a.ofRegistry, a.ofNetwork, a.ofFiles} {
		if try(f, err) {
			break
		}
	}
	return f
}

// ofRefusal reads the refusals of verification. The codes are cosign's.
func (a *app) ofRefusal(f *output.Failure, err error) bool {
	var r *sign.Refusal
	if !errors.As(err, &r) {
		return false
	}
	f.Why = r.Error()
	switch r.Why {
	case sign.NoInventory:
		f.Exit, f.Fix = 10, a.t("attach one: berth attach --artifact-type application/spdx+json IMAGE FILE; or an attested one: berth download attestation IMAGE",
			"可附加一份：berth attach --artifact-type application/spdx+json IMAGE FILE；或下载证明：berth download attestation IMAGE")
	case sign.NoSignature:
		f.Exit, f.Fix = 10, a.t("sign it: berth sign --key FILE IMAGE", "请签名：berth sign --key FILE IMAGE")
	case sign.NoImage:
		f.Exit = 11
	case sign.NoMatch:
		f.Exit, f.Fix = 12, a.t("do not use the image; or verify with the key of who signed it", "请勿使用该镜像；或使用签名者的密钥验证")
	case sign.NoCertificate:
		f.Exit, f.Fix = 13, a.t("verify with a key: --key FILE", "使用密钥验证：--key FILE")
	case sign.ByPolicy:
		f.Exit = output.ExitPolicy
		f.Fix = a.t("sign the image, or allow it in policy.json (--policy FILE)", "为镜像签名，或在 policy.json 中放行（--policy FILE）")
	}
	return true
}

// ofFault reads the errors of our own rooms.
func (a *app) ofFault(f *output.Failure, err error) bool {
	var e *fault.Error
	if !errors.As(err, &e) {
		return false
	}
	f.Why, f.Code = e.Message, string(e.Reason)
	a.ofAnswer(f, e)
	if e.Reason == fault.Unknown && !errors.As(e, new(*remote.Answer)) { // it is a code of registries, and none had a word in this
		f.Code = ""
	}
	f.Exit = map[fault.Kind]int{
		fault.NotFound: output.ExitNotFound, fault.Unauthenticated: output.ExitAuth, fault.Denied: output.ExitDenied,
		fault.Full: output.ExitQuota, fault.Unavailable: output.ExitNetwork, fault.Invalid: output.ExitFailure,
	}[e.Kind]
	if f.Exit == 0 {
		f.Exit = output.ExitFailure
	}
	if x, ok := usageExplanations()[string(e.Reason)]; ok {
		f.Exit = output.ExitUsage
		if f.Fix == "" {
			f.Fix = a.t(x.do, x.zhDo)
		}
	}
	return true
}

// ofAnswer says what helps against a failure of our client of registries, and what the registry's log has it under.
func (a *app) ofAnswer(f *output.Failure, e *fault.Error) {
	host, _, _ := strings.Cut(e.Message, ": ")
	var answer *remote.Answer
	if errors.As(e, &answer) {
		f.Code, f.Request = fmt.Sprintf("%s (%d)", e.Reason, answer.Status), answer.Request
	}
	switch {
	case e.Kind == fault.Unauthenticated && answer != nil:
		f.Fix = a.signIn(host, answer.Login, answer.Nobody)
	case e.Kind == fault.Unauthenticated:
		f.Fix = a.signIn(host, "", true)
	case e.Kind == fault.Denied && answer != nil:
		f.Fix = a.askedAs(answer.Login) + a.t("ask for the right, or sign in as somebody who has it: berth login ", "申请权限，或以有权限的用户登录：berth login ") + host
	case e.Reason == remote.ReasonPlainHTTP:
		f.Fix = a.t("only when you trust the network: --tls-verify=false (--src-tls-verify, --dest-tls-verify)", "仅在信任网络时使用：--tls-verify=false（--src-tls-verify、--dest-tls-verify）")
	case e.Reason == remote.ReasonNetwork && errors.Is(e, syscall.ECONNREFUSED):
		f.Why = a.t("nobody listens at ", "没有服务监听：") + host
		f.Fix = a.t("is the registry running, and is the port right?", "仓库是否在运行，端口是否正确？")
	case e.Reason == remote.ReasonTLS:
		var unknown x509.UnknownAuthorityError
		if errors.As(e, &unknown) {
			f.Why = a.t("the certificate of "+host+" is by an authority that this machine does not know", host+" 的证书由本机不认识的机构签发")
		}
		f.Fix = "berth trust " + host
	case e.Reason == remote.ReasonNetwork && errors.Is(e, syscall.ECONNREFUSED):
		f.Fix = a.t("is the registry running, and is the port right?", "仓库是否在运行，端口是否正确？")
	case e.Reason == remote.ReasonNetwork && errors.As(e, new(*net.DNSError)):
		f.Fix = a.t("look at the name, and at the network", "检查名称与网络")
	case e.Reason == remote.ReasonNetwork:
		f.Fix = "berth doctor " + host
	case errors.Is(e, layout.ErrSpoiled):
		f.Fix = a.t("bring it here again from where it came; berth validate IMAGE says all that is wrong", "请从来源重新复制；berth validate IMAGE 可列出全部问题")
	case e.Kind == fault.RateLimited && e.After > 0:
		f.Fix = fmt.Sprintf(a.t("try again in %d seconds", "请在 %d 秒后重试"), e.After)
	}
}

// askedAs says as whom a registry was asked; source is "" where that is not known.
func (a *app) askedAs(source string) string {
	if source == "" {
		return ""
	}
	return fmt.Sprintf(a.t("asked as %s; ", "请求身份：%s；"), source)
}

// signIn says as whom a registry was asked that wants another login, and what helps.
func (a *app) signIn(host, source string, nobody bool) string {
	text := a.askedAs(source)
	switch {
	case strings.Contains(source, "--no-creds"):
		return text + a.t("leave the flag out, or sign in: berth login ", "去掉该参数，或登录：berth login ") + host
	case strings.Contains(source, "--"):
		return text + a.t("compare that with what the registry knows, or sign in: berth login ", "请核对，或登录：berth login ") + host
	case nobody:
		return text + a.t("sign in: berth login ", "请登录：berth login ") + host
	}
	return text + a.t("sign in again: berth login ", "请重新登录：berth login ") + host
}

// ofPolicy reads the refusals of policy.json.
func (a *app) ofPolicy(f *output.Failure, err error) bool {
	var refused signature.PolicyRequirementError
	var wrong signature.InvalidSignatureError
	switch {
	case errors.As(err, &refused):
		f.Why = refused.Error()
	case errors.As(err, &wrong):
		f.Why = wrong.Error()
	default:
		return false
	}
	f.Exit = output.ExitPolicy
	f.Fix = a.t("sign the image, or allow it in policy.json (--policy FILE, --insecure-policy)", "为镜像签名，或在 policy.json 中放行（--policy FILE、--insecure-policy）")
	return true
}

// ofRegistry reads what a registry answered.
func (a *app) ofRegistry(f *output.Failure, err error) bool {
	var credentials docker.ErrUnauthorizedForCredentials
	var unexpected docker.UnexpectedHTTPStatusError
	var coded errcode.Error
	var coder errcode.ErrorCoder
	switch {
	case errors.As(err, &credentials):
		f.Exit, f.Code = output.ExitAuth, "UNAUTHORIZED (401)"
		f.Why = a.t("the registry does not accept the username and password", "仓库不接受该用户名和密码")
		f.Fix = a.signedIn(err)
	case errors.As(err, &coded):
		a.ofCode(f, err, coded.Code, coded.Message)
	case errors.As(err, &coder):
		a.ofCode(f, err, coder.ErrorCode(), "")
	case errors.Is(err, docker.ErrTooManyRequests):
		f.Why, f.Code = a.t("the registry asks to slow down", "仓库要求降低请求频率"), "TOOMANYREQUESTS (429)"
		f.Fix = a.t("try again later, or with --retry-times 3", "稍后重试，或使用 --retry-times 3")
	case errors.As(err, &unexpected):
		f.Why = fmt.Sprintf(a.t("the registry answered %d %s", "仓库返回 %d %s"), unexpected.StatusCode, http.StatusText(unexpected.StatusCode))
		f.Exit = exitOfStatus(unexpected.StatusCode)
	case isNotFound(err):
		f.Exit = output.ExitNotFound
	default:
		return false
	}
	return true
}

// ofCode reads an error code of the distribution specification.
func (a *app) ofCode(f *output.Failure, err error, code errcode.ErrorCode, message string) {
	d := code.Descriptor()
	f.Why = message
	if f.Why == "" || f.Why == d.Message {
		f.Why = a.t("the registry says: ", "仓库返回：") + d.Message
	}
	f.Code = d.Value
	if d.HTTPStatusCode != 0 && d.HTTPStatusCode != http.StatusInternalServerError {
		f.Code = fmt.Sprintf("%s (%d)", d.Value, d.HTTPStatusCode)
	}
	f.Exit = exitOfStatus(d.HTTPStatusCode)
	if code == v2.ErrorCodeManifestUnknown || code == v2.ErrorCodeNameUnknown {
		f.Exit = output.ExitNotFound
	}
	switch f.Exit {
	case output.ExitAuth:
		f.Fix = a.signedIn(err)
	case output.ExitDenied:
		host, c := a.asked(err)
		f.Fix = a.askedAs(c.Source) + a.t("ask for the right, or sign in as somebody who has it: berth login ", "申请权限，或以有权限的用户登录：berth login ") + host
	}
}

// signedIn is signIn for an error of the library, which says neither host nor login.
func (a *app) signedIn(err error) string {
	host, c := a.asked(err)
	return a.signIn(host, c.Source, c.None())
}

// asked finds out which registry an error of the library is about, by the names on the command line, and as whom it was asked.
// What cannot be found out is HOST, and nobody.
func (a *app) asked(err error) (host string, c remote.Credentials) {
	for i, arg := range a.arguments {
		named, perr := reference.ParseNormalizedNamed(strings.TrimPrefix(arg, "docker://"))
		if perr != nil || !strings.Contains(err.Error(), reference.Domain(named)) || len(a.systems) == 0 {
			continue
		}
		host = reference.Domain(named)
		r := &reach{sys: a.systems[min(i, len(a.systems)-1)], t: a.t, now: a.now}
		c, _ = r.credentials(context.Background(), host, reference.Path(named)) // what cannot be read was not used either
		return host, c
	}
	return "HOST", c
}

func exitOfStatus(status int) int {
	switch status {
	case http.StatusUnauthorized:
		return output.ExitAuth
	case http.StatusForbidden:
		return output.ExitDenied
	case http.StatusNotFound:
		return output.ExitNotFound
	case http.StatusInsufficientStorage, http.StatusRequestEntityTooLarge:
		return output.ExitQuota
	}
	return output.ExitFailure
}

// isNotFound is true of what skopeo calls a missing image: exit code 2.
func isNotFound(err error) bool {
	var inLayout liblayout.ImageNotFoundError
	var inArchive ociarchive.ImageNotFoundError
	if errors.As(err, &inLayout) || errors.As(err, &inArchive) || storageMisses(err) || fault.Has(err, fault.ManifestUnknown) {
		return true
	}
	var coder errcode.ErrorCoder
	return errors.As(err, &coder) && coder.ErrorCode() == v2.ErrorCodeManifestUnknown
}

// ofNetwork reads the ways in which there is no answer.
func (a *app) ofNetwork(f *output.Failure, err error) bool {
	host := "HOST"
	var u *url.Error
	if errors.As(err, &u) {
		if parsed, perr := url.Parse(u.URL); perr == nil && parsed.Host != "" {
			host = parsed.Host
		}
	}
	f.Exit = output.ExitNetwork
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var resolve *net.DNSError
	var dial *net.OpError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &unknown):
		f.Why = a.t("the certificate of "+host+" is by an authority that this machine does not know", host+" 的证书由本机不认识的机构签发")
		f.Fix = "berth trust " + host
	case errors.As(err, &name), errors.As(err, &invalid):
		f.Why = innermost(err)
		f.Fix = a.t("the registry needs a certificate for this name: berthd cert new", "仓库需要适用于该名称的证书：berthd cert new")
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		f.Why = host + a.t(" speaks http, and not https", " 使用 http 而不是 https")
		f.Fix = a.t("only when you trust the network: --tls-verify=false (--src-tls-verify, --dest-tls-verify)", "仅在信任网络时使用：--tls-verify=false（--src-tls-verify、--dest-tls-verify）")
	case errors.As(err, &resolve):
		f.Why = fmt.Sprintf(a.t("there is no host %s", "找不到主机 %s"), resolve.Name)
		f.Fix = a.t("look at the name, and at the network", "检查名称与网络")
	case errors.Is(err, syscall.ECONNREFUSED):
		f.Why = a.t("nobody listens at ", "没有服务监听：") + host
		f.Fix = a.t("is the registry running, and is the port right?", "仓库是否在运行，端口是否正确？")
	case errors.As(err, &dial) && dial.Net == "unix":
		f.Why = fmt.Sprintf(a.t("no daemon answers at %s: %v", "%s 没有守护进程应答：%v"), dial.Addr, dial.Err)
		f.Fix = a.t("is it running, and may you use its socket? --daemon-host (--src-daemon-host, --dest-daemon-host) names another", "守护进程是否在运行，你是否有权访问该套接字？可用 --daemon-host（--src-daemon-host、--dest-daemon-host）指定其他地址")
	case errors.As(err, &record):
		f.Why = host + a.t(" speaks neither https nor http: something else listens there", " 既不是 https 也不是 http：监听的是其他服务")
		f.Fix = a.t("look at the host and the port", "检查主机与端口")
	case errors.As(err, &dial):
		f.Why = dial.Error()
		f.Fix = "berth doctor " + host
	default:
		f.Exit = output.ExitFailure
		return false
	}
	return true
}

// ofFiles reads the ways in which a file is not there, or there is no room for it.
func (a *app) ofFiles(f *output.Failure, err error) bool {
	var path *fs.PathError
	switch {
	case errors.Is(err, syscall.ENOSPC):
		f.Why, f.Exit = a.t("no space is left on the disk", "磁盘空间已满"), output.ExitQuota
		if errors.As(err, &path) {
			f.Why = fmt.Sprintf(a.t("no space is left on the disk of %s", "%s 所在磁盘空间已满"), path.Path)
		}
		f.Fix = a.t("free some, or use another disk (--tmpdir DIR is for temporary files)", "释放空间，或使用其他磁盘（临时文件可用 --tmpdir DIR）")
	case errors.As(err, &path):
		f.Why = path.Error()
		if !errors.As(err, new(*attempt)) { // nothing else says what was tried
			f.What, f.Why = a.t("cannot ", "无法")+a.lang.Say(path.Op+" "+path.Path), path.Err.Error()
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			f.Fix = a.t("look at the name of the file", "检查文件名")
		case errors.Is(err, fs.ErrPermission):
			f.Fix = a.t("look at who may use the file (ls -l)", "检查文件权限（ls -l）")
		}
	default:
		return false
	}
	return true
}

// innermost is the text of an error for people: the whole chain, without Go's prefixes.
func innermost(err error) string { return strings.ReplaceAll(err.Error(), "\n", " ") }

// exit is the exit code of a failure: those of the tool that berth stands in for.
func (a *app) exit(f *output.Failure) int {
	switch {
	case standIns()[a.name].exit != 0:
		return standIns()[a.name].exit
	case a.name == "skopeo" && isNotFound(f.Cause):
		return output.ExitNotFound
	case a.name == "skopeo", a.name == "crane", f.Exit == 0:
		return output.ExitFailure
	}
	return f.Exit
}
