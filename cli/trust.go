package cli

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-registry/berth/cli/output"
)

// trustOptions are the flags of trust.
type trustOptions struct {
	fingerprint string
	clients     []string
	print, yes  bool
}

func trustCommand(a *app) *cobra.Command {
	o := &trustOptions{}
	c := &cobra.Command{
		Use: "trust [flags] HOST[:PORT]", Short: a.t("trust the certificate of a registry, after you compared its fingerprint", "核对指纹后信任仓库的证书"),
		Long: a.t("Ask a registry for the certificate authority that its certificate is by, show the fingerprint, and, when you say yes, write it where the clients look. For podman, skopeo, buildah and berth that needs no root. A berthd prints the same fingerprint when it starts.",
			"向仓库询问签发其证书的机构，显示指纹；确认后写入各客户端读取的位置。podman、skopeo、buildah 与 berth 无需 root。berthd 启动时会显示同样的指纹。"),
		Example: "berth trust localhost:5000\nberth trust --for podman,docker registry.example.com\nberth trust --from-fingerprint 4F:1C:…:9A registry.example.com\nberth trust --print registry.example.com",
		Args:    a.args(1, 1),
	}
	o.addFlags(a, c)
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		return failed(a.trust(ctx, o, args[0]), a.t("cannot trust %s", "无法信任 %s"), args[0])
	})
	c.AddCommand(trustShowCommand(a), trustRemoveCommand(a))
	return c
}

func (o *trustOptions) addFlags(a *app, c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.fingerprint, "from-fingerprint", "", a.t("trust without asking when the SHA256 is `HEX`", "指纹与 HEX 相同时无需确认"))
	f.StringSliceVar(&o.clients, "for", []string{"podman"}, a.t("for these clients: podman (with skopeo, buildah, berth), docker, containerd, k3s, system (every program of this machine)", "面向的客户端：podman（含 skopeo、buildah、berth）、docker、containerd、k3s、system（本机所有程序）"))
	f.BoolVar(&o.print, "print", false, a.t("print the lines of shell that do it, and do nothing", "只输出等效的 shell 命令"))
	f.BoolVar(&o.yes, "yes", false, a.t("do not ask", "不询问"))
}

// trustedHosts are those that any client has certificates for.
func (a *app) trustedHosts() []string {
	found := map[string]bool{}
	for _, client := range trustingClients() {
		if client == "system" { // whose files have names of their own
			continue
		}
		entries, err := os.ReadDir(filepath.Dir(filepath.Dir(a.trustFile(client, "HOST"))))
		if err != nil {
			continue // most machines have not all of them
		}
		for _, e := range entries {
			if _, err := os.Stat(a.trustFile(client, e.Name())); err == nil {
				found[e.Name()] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

func trustingClients() []string { return []string{"podman", "docker", "containerd", "k3s", "system"} }

// showTrust prints what is trusted for a host; found is false when that is nothing.
func (a *app) showTrust(host string) (found bool, err error) {
	for _, client := range trustingClients() {
		file := a.trustFile(client, host)
		if file == "" {
			continue
		}
		body, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return found, err
		}
		found = true
		cert, err := parseCertificate(body)
		if err != nil {
			return found, failed(err, a.t("cannot read %s", "无法读取 %s"), file)
		}
		fmt.Fprintf(a.Out, "%-10s  %s\n            SHA256 %s\n", client, file, fingerprint(cert))
	}
	return found, nil
}

func trustShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "show [HOST[:PORT]]", Short: a.t("show what is trusted for a registry, or for all", "显示对指定或所有仓库的信任"), Args: a.args(0, 1),
		RunE: a.run(func(_ context.Context, args []string) error {
			if len(args) == 0 {
				for _, host := range a.trustedHosts() {
					fmt.Fprintln(a.Out, host)
					if _, err := a.showTrust(host); err != nil {
						return err
					}
				}
				return nil
			}
			found, err := a.showTrust(args[0])
			if err != nil {
				return err
			}
			if !found {
				return &output.Failure{What: a.t("nothing is trusted for "+args[0]+" beside the system's authorities", args[0]+" 没有额外信任的证书"), Exit: output.ExitNotFound}
			}
			return nil
		}),
	}
}

func trustRemoveCommand(a *app) *cobra.Command {
	var clients []string
	c := &cobra.Command{Use: "rm HOST[:PORT]", Short: a.t("trust a registry no more", "取消对仓库的信任"), Args: a.args(1, 1)}
	c.Flags().StringSliceVar(&clients, "for", []string{"podman"}, a.t("for these clients: podman, docker, containerd, k3s, system", "面向的客户端：podman、docker、containerd、k3s、system"))
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		for _, client := range clients {
			files, err := a.trustFiles(client, args[0], nil)
			if err != nil {
				return err
			}
			for _, f := range files {
				if f.shared {
					if err := writeTrust(f); err != nil {
						return failed(err, a.t("cannot write %s", "无法写入 %s"), f.path)
					}
					continue
				}
				if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return failed(err, a.t("cannot remove %s", "无法删除 %s"), f.path)
				} else if err == nil {
					fmt.Fprintln(a.Out, f.path)
				}
			}
			if client != "system" {
				_ = os.Remove(filepath.Dir(a.trustFile(client, args[0]))) // the folder, when nothing else is in it
			}
			if err := a.heed(ctx, client, false); err != nil {
				return err
			}
		}
		return nil
	})
	return c
}

func (a *app) trust(ctx context.Context, o *trustOptions, host string) error {
	for _, client := range o.clients { // before anybody is asked
		if !slices.Contains(trustingClients(), client) {
			return unknownClient(client)
		}
	}
	authority, known, err := a.authority(ctx, host)
	if err != nil {
		return err
	}
	if known && o.fingerprint == "" {
		_, err := fmt.Fprintln(a.Out, a.t("the certificate of "+host+" is by an authority that this machine trusts; nothing is to be done", host+" 的证书由本机信任的机构签发，无需操作"))
		return err
	}
	sum := fingerprint(authority)
	if err := a.agree(o, host, authority, sum); err != nil {
		return err
	}
	body := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Raw})
	for _, client := range o.clients {
		files, err := a.trustFiles(client, host, body)
		if err != nil {
			return err
		}
		for _, f := range files {
			if o.print {
				fmt.Fprintf(a.Out, "mkdir -p %s\ncat > %s <<'EOF'\n%sEOF\n", filepath.Dir(f.path), f.path, f.body)
				continue
			}
			if err := writeTrust(f); err != nil {
				if errors.Is(err, fs.ErrPermission) {
					return &output.Failure{What: a.t("you may not write "+f.path, "没有权限写入 "+f.path), Fix: "sudo berth trust --for " + client + " --from-fingerprint " + sum + " " + host, Exit: output.ExitFailure, Cause: err}
				}
				return err
			}
			fmt.Fprintln(a.Out, f.path)
		}
		if err := a.heed(ctx, client, o.print); err != nil {
			return err
		}
	}
	return nil
}

// heed has a client take notice of what was written, or says what has to be done for that.
func (a *app) heed(ctx context.Context, client string, print bool) error {
	switch client {
	case "k3s":
		const restart = "systemctl restart k3s"
		if print {
			_, err := fmt.Fprintln(a.Out, restart)
			return err
		}
		fmt.Fprintln(a.Err, a.t("k3s reads that when it starts: "+restart+" (on agents: k3s-agent)", "k3s 启动时读取：请执行 "+restart+"（agent 节点为 k3s-agent）"))
	case "system":
		s, ok := systemStore()
		if !ok {
			return nil
		}
		if print {
			_, err := fmt.Fprintln(a.Out, strings.Join(s.command, " "))
			return err
		}
		if text, err := exec.CommandContext(ctx, s.command[0], s.command[1:]...).CombinedOutput(); err != nil { //nolint:gosec // one of the commands above
			return fmt.Errorf("%s: %w: %s", strings.Join(s.command, " "), err, lastLine(string(text)))
		}
	}
	return nil
}

// lastLine is the last line of a text that says something.
func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// agree shows the authority and asks a person, unless the fingerprint is known already.
func (a *app) agree(o *trustOptions, host string, authority *x509.Certificate, sum string) error {
	if o.fingerprint != "" {
		given, err := a.parseFingerprint(o.fingerprint)
		if err != nil {
			return err
		}
		if given != strings.ReplaceAll(sum, ":", "") {
			return &output.Failure{What: a.t("the fingerprint is another one", "指纹不一致"), Exit: output.ExitPolicy,
				Why: a.t("the registry's authority is SHA256 "+sum, "仓库的签发机构为 SHA256 "+sum),
				Fix: a.t("compare it with what berthd printed at its start; somebody may stand between you and the registry", "与 berthd 启动时的输出核对；可能有人在中间拦截")}
		}
		return nil
	}
	fmt.Fprintf(a.Err, "%s\n  %s\n  SHA256 %s\n  %s\n", host, authority.Subject, sum,
		fmt.Sprintf(a.t("valid until %s", "有效期至 %s"), authority.NotAfter.UTC().Format(time.DateOnly)))
	if o.print || o.yes {
		return nil
	}
	fmt.Fprint(a.Err, a.t("Is this the fingerprint that the registry's operator gave you? [y/N] ", "这是否与仓库运维人员提供的指纹一致？[y/N] "))
	line, err := bufio.NewReader(a.In).ReadString('\n')
	if err != nil && line == "" {
		fmt.Fprintln(a.Err)
		return output.Usage("%s", a.t("nobody is there to say yes", "无人确认")).WithFix("--from-fingerprint %s", sum)
	}
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		return &output.Failure{What: a.t("not trusted, as you said", "未信任"), Exit: output.ExitPolicy}
	}
	return nil
}

// parseFingerprint reads a SHA-256 as berthd, openssl, ssh or a person write it: with the algorithm before it or without, in capitals
// or not, with colons, spaces or nothing between. A part of one would fit a certificate that somebody made to fit.
func (a *app) parseFingerprint(text string) (string, error) {
	digits := strings.ToUpper(strings.TrimSpace(text))
	for _, prefix := range []string{"SHA256 FINGERPRINT=", "SHA256", "SHA-256"} {
		if rest, ok := strings.CutPrefix(digits, prefix); ok {
			digits = strings.TrimLeft(rest, ":= ")
			break
		}
	}
	digits = strings.NewReplacer(":", "", " ", "").Replace(digits)
	if strings.Trim(digits, "0123456789ABCDEF") != "" || digits == "" {
		return "", output.Usage(a.t("--from-fingerprint %q is no SHA-256: it is 64 hexadecimal digits, in pairs or not", "--from-fingerprint %q 不是 SHA-256：应为 64 位十六进制，可成对书写"), text)
	}
	if len(digits) != 2*sha256.Size {
		return "", output.Usage(a.t("--from-fingerprint has %d of the 64 digits of a SHA-256: give all of them, a part proves nothing", "--from-fingerprint 只有 SHA-256 的 64 位中的 %d 位：请给出全部，部分指纹不能证明任何事"), len(digits)).
			WithFix("%s", a.t("berthd cert show prints it, as does the start of berthd", "berthd cert show 与 berthd 启动时都会显示"))
	}
	return digits, nil
}

// authority finds the certificate of the authority that a host's certificate is by: the one that berthd hands out at
// /ca.crt, or the last one of the chain that the host shows. It is proved to have issued the host's certificate, for
// this name; nothing else of it is believed. known says that this machine trusts the host already.
func (a *app) authority(ctx context.Context, host string) (cert *x509.Certificate, known bool, err error) {
	address := host
	if _, _, err := net.SplitHostPort(host); err != nil {
		address = net.JoinHostPort(strings.Trim(host, "[]"), "443")
	}
	name, _, _ := net.SplitHostPort(address)
	var chain []*x509.Certificate
	conf := &tls.Config{ServerName: name, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, //nolint:gosec // what is found is shown to a person and proved below
		VerifyConnection: func(s tls.ConnectionState) error { chain = s.PeerCertificates; return nil }}
	transport := &http.Transport{TLSClientConfig: conf, Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 10 * time.Second}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+"/ca.crt", nil)
	if err != nil {
		return nil, false, output.Usage("%q is no host", host)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, false, err
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what cannot be read is no certificate
	if len(chain) == 0 {
		return nil, false, errors.New("the host shows no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err = chain[0].Verify(x509.VerifyOptions{DNSName: name, Intermediates: between, CurrentTime: a.now()})
	known = err == nil
	candidates := []*x509.Certificate{chain[len(chain)-1]}
	if offered, perr := parseCertificate(body); resp.StatusCode == http.StatusOK && perr == nil {
		candidates = append([]*x509.Certificate{offered}, candidates...)
	}
	for _, c := range candidates {
		roots := x509.NewCertPool()
		roots.AddCert(c)
		if _, err = chain[0].Verify(x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: between, CurrentTime: a.now()}); err == nil {
			return c, known, nil
		}
	}
	return nil, false, fmt.Errorf("the certificate of %s would not be accepted with its authority either: %w", host, err)
}

func parseCertificate(body []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(body)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("not a certificate in PEM form")
	}
	return x509.ParseCertificate(block.Bytes)
}

// fingerprint is what berthd prints, too: the SHA-256 of a certificate as pairs with colons.
func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	pairs := make([]string, len(sum))
	for i, b := range sum {
		pairs[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(pairs, ":")
}
