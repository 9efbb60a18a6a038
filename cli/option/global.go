package option

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"go.podman.io/image/v5/pkg/cli/basetls/tlsdetails"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/types"
	"go.podman.io/storage/pkg/configfile"

	"github.com/berth-registry/berth/cli/output"
)

// Global are the flags of every command.
type Global struct {
	Debug          bool
	Timeout        time.Duration // --command-timeout; 0: none
	Policy         string
	InsecurePolicy bool
	RequireSigned  bool
	RegistriesD    string
	RegistriesConf string
	TLSDetails     string
	OverrideArch   string
	OverrideOS     string
	OverrideVar    string
	TmpDir         string
	AgentPrefix    string
	Context        string             // name of a context of contexts.yaml
	AuthFile       string             // of the context; a flag of the command goes before it
	Color          string             // auto, always, never
	Progress       string             // auto, bar, plain, json, none
	Lang           string             // read before flags are, by the language of the help
	TLSVerify      types.OptionalBool // in front of the command, as older scripts have it
	retry          int
	flags          *pflag.FlagSet
}

// AddFlags adds them to the flags that all commands inherit.
func (g *Global) AddFlags(f *pflag.FlagSet, t func(en, zh string) string) {
	f.BoolVar(&g.Debug, "debug", false, t("say what is asked and answered, without secrets", "显示请求与应答，不含机密"))
	g.flags = f
	f.Var(&span{&g.Timeout}, "timeout", t("end the command after this time, such as 30s (skopeo: --command-timeout)", "命令的时间上限，如 30s（skopeo：--command-timeout）"))
	f.Var(&span{&g.Timeout}, "command-timeout", "")
	f.Var(&times{&g.retry}, "retry", t("make a request that failed again this many `TIMES` (--retry-times of a command goes before it); else 4, where berth itself asks a registry", "请求失败后的重试次数（命令自身的 --retry-times 优先）；berth 自行访问仓库时默认 4"))
	f.StringVar(&g.Policy, "policy", "", t("trust policy `FILE` in place of the user's or the system's policy.json", "信任策略文件，替代用户或系统的 policy.json"))
	f.BoolVar(&g.InsecurePolicy, "insecure-policy", false, t("run without any trust policy", "不使用信任策略"))
	f.BoolVar(&g.RequireSigned, "require-signed", false, t("refuse an image for which the policy asks no signature", "拒绝策略未要求签名的镜像"))
	f.StringVar(&g.RegistriesD, "registries.d", "", t("`DIR` with registry configuration, such as where signatures are", "仓库配置目录，如签名的位置"))
	f.StringVar(&g.RegistriesConf, "registries-conf", "", t("registries.conf `FILE`", "registries.conf 文件"))
	f.StringVar(&g.TLSDetails, "tls-details", "", t("`FILE` with the versions and ciphers of TLS to accept", "TLS 版本与套件的配置文件"))
	f.StringVar(&g.OverrideArch, "override-arch", "", t("choose the image for `ARCH`, not for this machine", "选择该架构的镜像"))
	f.StringVar(&g.OverrideOS, "override-os", "", t("choose the image for `OS`, not for this machine", "选择该操作系统的镜像"))
	f.StringVar(&g.OverrideVar, "override-variant", "", t("choose the image for this architecture `VARIANT`", "选择该架构变体的镜像"))
	f.StringVar(&g.TmpDir, "tmpdir", "", t("`DIR` for temporary files", "临时文件目录"))
	f.StringVar(&g.AgentPrefix, "user-agent-prefix", "", t("put before the name that registries see", "加在 User-Agent 之前"))
	f.StringVar(&g.Context, "context", os.Getenv("BERTH_CONTEXT"), t("use the registry and settings of context `NAME`", "使用名为 NAME 的上下文"))
	f.StringVar(&g.Color, "color", "auto", t("colors: auto, always, never", "颜色：auto、always、never"))
	f.StringVar(&g.Progress, "progress", "auto", t("progress: auto, bar, plain, json, none", "进度：auto、bar、plain、json、none"))
	f.StringVar(&g.Lang, "lang", "", t("language: en, zh-CN", "语言：en、zh-CN"))
	for _, name := range []string{"command-timeout", "registries-conf", "tls-details", "user-agent-prefix", "tmpdir"} {
		f.Lookup(name).Hidden = true
	}
}

// Retries is how often something that failed is done again: as the command's own flags say, else as --retry does. given is false
// when neither was.
func (g *Global) Retries(r Retry) (times int, given bool) {
	switch {
	case r.Given():
		return r.Times, true
	case g.flags != nil && g.flags.Changed("retry"):
		return g.retry, true
	}
	return r.Times, false
}

// Check refuses values and combinations that have no meaning.
func (g *Global) Check() error {
	for _, one := range []struct {
		name, value string
		allowed     []string
	}{
		{"color", g.Color, []string{"auto", "always", "never"}},
		{"progress", g.Progress, []string{"auto", "bar", "plain", "json", "none"}},
		{"lang", g.Lang, []string{"", "en", "zh-CN", "zh"}},
	} {
		if err := oneOf(one.name, one.value, one.allowed...); err != nil {
			return err
		}
	}
	if g.InsecurePolicy && g.RequireSigned {
		return output.Usage("--insecure-policy and --require-signed contradict each other")
	}
	return nil
}

func oneOf(name, value string, allowed ...string) error {
	for _, a := range allowed {
		if a == value {
			return nil
		}
	}
	return output.Usage("--%s %q is none of %s", name, value, strings.Join(allowed, ", "))
}

// System makes what the transports of go.podman.io/image take; each call a fresh one.
func (g *Global) System(version string) (*types.SystemContext, error) {
	agent := "berth/" + version
	if g.AgentPrefix != "" {
		agent = g.AgentPrefix + " " + agent
	}
	sys := &types.SystemContext{
		RegistriesDirPath:        g.RegistriesD,
		SystemRegistriesConfPath: g.RegistriesConf,
		ArchitectureChoice:       g.OverrideArch,
		OSChoice:                 g.OverrideOS,
		VariantChoice:            g.OverrideVar,
		BigFilesTemporaryDir:     g.TmpDir,
		DockerRegistryUserAgent:  agent,
		AuthFilePath:             g.AuthFile,
	}
	if g.TLSVerify != types.OptionalBoolUndefined {
		sys.DockerInsecureSkipTLSVerify = types.NewOptionalBool(g.TLSVerify == types.OptionalBoolFalse)
	}
	base, err := tlsdetails.BaseTLSFromOptionalFile(g.TLSDetails)
	if err != nil {
		return nil, fmt.Errorf("--tls-details: %w", err)
	}
	sys.BaseTLSConfig = base.TLSConfig()
	return sys, nil
}

// PolicyOf reads the trust policy: --policy, else the user's and the system's. On a machine that has none, everything is
// accepted, as docker does; skopeo refuses to work there.
func (g *Global) PolicyOf(sys *types.SystemContext) (*signature.Policy, error) {
	policy := &signature.Policy{Default: []signature.PolicyRequirement{signature.NewPRInsecureAcceptAnything()}}
	var err error
	switch {
	case g.InsecurePolicy:
	case g.Policy != "":
		if policy, err = signature.NewPolicyFromFile(g.Policy); err != nil {
			return nil, fmt.Errorf("trust policy: %w", err)
		}
	default:
		found, err := signature.DefaultPolicy(sys)
		switch {
		case err == nil:
			policy = found
		case !errors.Is(err, configfile.ErrConfigFileNotFound):
			return nil, fmt.Errorf("trust policy: %w", err)
		}
	}
	return policy, nil
}

// PolicyContext is PolicyOf as the library wants it. The caller ends it with Destroy.
func (g *Global) PolicyContext(sys *types.SystemContext) (*signature.PolicyContext, error) {
	policy, err := g.PolicyOf(sys)
	if err != nil {
		return nil, err
	}
	p, err := signature.NewPolicyContext(policy)
	if err != nil {
		return nil, fmt.Errorf("trust policy: %w", err)
	}
	p.RequireSignatureVerification(g.RequireSigned)
	return p, nil
}
