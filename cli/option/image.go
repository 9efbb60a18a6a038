package option

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"go.podman.io/image/v5/pkg/compression"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/cli/output"
)

// Text picks one of two languages.
type Text func(en, zh string) string

// Bool is a flag that is true, false or not given.
type Bool struct{ value *types.OptionalBool }

func (b Bool) String() string {
	if b.value == nil || *b.value == types.OptionalBoolUndefined {
		return ""
	}
	return fmt.Sprint(*b.value == types.OptionalBoolTrue)
}

// Set accepts what strconv.ParseBool does.
func (b Bool) Set(s string) error {
	switch strings.ToLower(s) {
	case "1", "t", "true":
		*b.value = types.OptionalBoolTrue
	case "0", "f", "false":
		*b.value = types.OptionalBoolFalse
	default:
		return fmt.Errorf("%q is neither true nor false", s)
	}
	return nil
}

// Type is what help shows for the value.
func (Bool) Type() string { return "bool" }

// IsBoolFlag lets the flag stand without a value.
func (Bool) IsBoolFlag() bool { return true }

// OptionalBool adds a flag that knows whether it was given.
func OptionalBool(f *pflag.FlagSet, value *types.OptionalBool, name, usage string) {
	f.Var(Bool{value}, name, usage)
	f.Lookup(name).NoOptDefVal = "true"
}

// Shared are the flags that a command has once, however many images it names.
type Shared struct {
	AuthFile string
}

// AddFlags adds them.
func (s *Shared) AddFlags(f *pflag.FlagSet, t Text) {
	f.StringVar(&s.AuthFile, "authfile", os.Getenv("REGISTRY_AUTH_FILE"), t("credentials `FILE`; else ${XDG_RUNTIME_DIR}/containers/auth.json and those of podman and docker", "凭据文件；默认 ${XDG_RUNTIME_DIR}/containers/auth.json 以及 podman、docker 的文件"))
}

// Image are the flags that say how to reach one image: who is asking, and what of the other side is trusted.
type Image struct {
	shared     *Shared
	prefix     string
	authFile   Optional
	creds      Optional
	username   Optional
	password   Optional
	token      Optional
	noCreds    bool
	certDir    string
	tlsVerify  types.OptionalBool
	both       *types.OptionalBool // --tls-verify of a command with two images
	sharedBlob string
	daemonHost string
}

// NewImage makes the group; prefix is "", "src-" or "dest-".
func NewImage(shared *Shared, prefix string) *Image { return &Image{shared: shared, prefix: prefix} }

// AddRegistryFlags adds the flags that concern a registry.
func (i *Image) AddRegistryFlags(f *pflag.FlagSet, t Text) {
	if i.prefix != "" {
		i.authFile.add(f, i.prefix+"authfile", "", t("credentials `FILE` for this side", "该侧的凭据文件"))
	}
	i.creds.add(f, i.prefix+"creds", "", t("sign in as `USERNAME[:PASSWORD]`", "以 USERNAME[:PASSWORD] 登录"))
	i.username.add(f, i.prefix+"username", "", t("sign in as this `USERNAME`", "用户名"))
	i.password.add(f, i.prefix+"password", "", t("`PASSWORD` for it", "密码"))
	i.token.add(f, i.prefix+"registry-token", "", t("bearer `TOKEN` for the registry", "仓库的 Bearer 令牌"))
	f.BoolVar(&i.noCreds, i.prefix+"no-creds", false, t("ask the registry as nobody", "匿名访问仓库"))
	f.StringVar(&i.certDir, i.prefix+"cert-dir", "", t("`DIR` with *.crt, *.cert and *.key for the registry or daemon", "包含 *.crt、*.cert、*.key 的目录"))
	OptionalBool(f, &i.tlsVerify, i.prefix+"tls-verify", t("require https and a trusted certificate (default true)", "要求 https 与受信任的证书（默认 true）"))
	if i.prefix != "" { // what skopeo once called them
		alias := i.prefix[:1] + "creds"
		i.creds.add(f, alias, "", t("sign in as `USERNAME[:PASSWORD]`", "以 USERNAME[:PASSWORD] 登录"))
		f.Lookup(alias).Hidden = true
	}
}

// AddFlags adds AddRegistryFlags and the flags that concern other transports.
func (i *Image) AddFlags(f *pflag.FlagSet, t Text) {
	i.AddRegistryFlags(f, t)
	f.StringVar(&i.sharedBlob, i.prefix+"shared-blob-dir", "", t("`DIR` where OCI layouts share their blobs", "OCI 布局共享 blob 的目录"))
	f.StringVar(&i.daemonHost, i.prefix+"daemon-host", "", t("`HOST` of the docker daemon (docker-daemon: only)", "docker 守护进程地址（仅 docker-daemon:）"))
}

// BothSides adds the flag --tls-verify of a command with two images, which those of the sides override.
func BothSides(f *pflag.FlagSet, t Text, sides ...*Image) {
	var both types.OptionalBool
	OptionalBool(f, &both, "tls-verify", t("--src-tls-verify and --dest-tls-verify in one", "同时设置 --src-tls-verify 与 --dest-tls-verify"))
	for _, s := range sides {
		s.both = &both
	}
}

// Misplaced refuses flags of one transport for an image of another one.
func (i *Image) Misplaced(transport string) error {
	switch {
	case i.sharedBlob != "" && transport != "oci":
		return output.Usage("--%sshared-blob-dir is for oci:, and the image is in %s:", i.prefix, transport)
	case i.daemonHost != "" && transport != "docker-daemon":
		return output.Usage("--%sdaemon-host is for docker-daemon:, and the image is in %s:", i.prefix, transport)
	}
	return nil
}

// Ineffective returns the flags that were given and have no effect for the transport: those of logins and TLS, which scripts give wherever
// an image is.
func (i *Image) Ineffective(transport string) (flags []string) {
	if transport == "docker" {
		return nil
	}
	for _, f := range []struct {
		name  string
		given bool
		also  string // a transport that heeds it, too
	}{
		{"creds", i.creds.Given, ""}, {"username", i.username.Given, ""}, {"registry-token", i.token.Given, ""}, {"no-creds", i.noCreds, ""},
		{"authfile", i.authFile.Given, ""}, {"cert-dir", i.certDir != "", "docker-daemon"}, {"tls-verify", i.tlsVerify != types.OptionalBoolUndefined, "docker-daemon"},
	} {
		if f.given && transport != f.also {
			flags = append(flags, "--"+i.prefix+f.name)
		}
	}
	return flags
}

// Apply sets in sys what the flags say.
func (i *Image) Apply(sys *types.SystemContext) error {
	sys.DockerCertPath, sys.DockerDaemonCertPath = i.certDir, i.certDir
	sys.OCISharedBlobDirPath = i.sharedBlob
	sys.DockerDaemonHost = i.daemonHost
	if i.shared.AuthFile != "" {
		sys.AuthFilePath = i.shared.AuthFile
	}
	if i.authFile.Given {
		sys.AuthFilePath = i.authFile.Value
	}
	verify := i.tlsVerify
	if verify == types.OptionalBoolUndefined && i.both != nil {
		verify = *i.both
	}
	if verify != types.OptionalBoolUndefined {
		sys.DockerInsecureSkipTLSVerify = types.NewOptionalBool(verify == types.OptionalBoolFalse)
		sys.DockerDaemonInsecureSkipTLSVerify = verify == types.OptionalBoolFalse
	}
	return i.credentials(sys)
}

func (i *Image) credentials(sys *types.SystemContext) error {
	contradict := func(a, b string) error {
		return output.Usage("--%s%s and --%s%s contradict each other", i.prefix, a, i.prefix, b)
	}
	switch {
	case i.creds.Given && i.noCreds:
		return contradict("creds", "no-creds")
	case i.username.Given && i.noCreds:
		return contradict("username", "no-creds")
	case i.creds.Given && i.username.Given:
		return contradict("creds", "username")
	case i.username.Given && !i.password.Given:
		return output.Usage("--%susername needs --%spassword", i.prefix, i.prefix)
	case i.password.Given && !i.username.Given:
		return output.Usage("--%spassword needs --%susername", i.prefix, i.prefix)
	}
	switch {
	case i.creds.Given:
		user, password, _ := strings.Cut(i.creds.Value, ":")
		if user == "" {
			return output.Usage("--%screds expects USERNAME[:PASSWORD]; got no username", i.prefix)
		}
		sys.DockerAuthConfig = &types.DockerAuthConfig{Username: user, Password: password}
	case i.username.Given:
		sys.DockerAuthConfig = &types.DockerAuthConfig{Username: i.username.Value, Password: i.password.Value}
	case i.noCreds:
		sys.DockerAuthConfig = &types.DockerAuthConfig{}
	}
	if i.token.Given {
		sys.DockerBearerRegistryToken = i.token.Value
	}
	return nil
}

// Destination are the flags of how an image is written.
type Destination struct {
	*Image
	compress, decompress bool
	acceptUncompressed   bool
	format               string
	level                Optional
	precompute           bool
	Force                bool // exclusively the format that was asked for
}

// NewDestination makes the group for the side that is written.
func NewDestination(shared *Shared, prefix string) *Destination {
	return &Destination{Image: NewImage(shared, prefix)}
}

// AddFlags adds those of Image and its own.
func (d *Destination) AddFlags(f *pflag.FlagSet, t Text) {
	d.Image.AddFlags(f, t)
	f.BoolVar(&d.compress, d.prefix+"compress", false, t("compress layers in a dir: destination", "在 dir: 目标中压缩层"))
	f.BoolVar(&d.decompress, d.prefix+"decompress", false, t("decompress layers in a dir: destination", "在 dir: 目标中解压层"))
	f.BoolVar(&d.acceptUncompressed, d.prefix+"oci-accept-uncompressed-layers", false, t("leave layers uncompressed in an oci: destination", "在 oci: 目标中保留未压缩的层"))
	f.StringVar(&d.format, d.prefix+"compress-format", "", t("compress layers as `FORMAT`: gzip, zstd, zstd:chunked", "层的压缩格式：gzip、zstd、zstd:chunked"))
	d.level.add(f, d.prefix+"compress-level", "", t("`LEVEL` of compression", "压缩级别"))
	f.BoolVar(&d.precompute, d.prefix+"precompute-digests", false, t("digest a layer before it is sent, so that one that is there is not sent", "发送前先计算摘要，避免重复上传"))
	f.BoolVar(&d.Force, d.prefix+"force-compress-format", false, t("use no other format than that of --dest-compress-format", "只使用 --dest-compress-format 指定的格式"))
}

// Converts reports whether the flags ask for bytes other than those of the source.
func (d *Destination) Converts() bool {
	return d.compress || d.decompress || d.acceptUncompressed || d.format != "" || d.level.Given || d.Force
}

// Misplaced refuses flags of one transport for an image of another one, and combinations that mean nothing.
func (d *Destination) Misplaced(transport string) error {
	switch {
	case d.compress && d.decompress:
		return output.Usage("--%scompress and --%sdecompress contradict each other", d.prefix, d.prefix)
	case d.acceptUncompressed && transport != "oci" && transport != "oci-archive":
		return output.Usage("--%soci-accept-uncompressed-layers is for oci: and oci-archive:, and the image goes to %s:", d.prefix, transport)
	case d.Force && d.format == "":
		return output.Usage("--%sforce-compress-format needs --%scompress-format", d.prefix, d.prefix)
	}
	return d.Image.Misplaced(transport)
}

// OnlyForDir returns the flags that were given and have no effect for the transport, where the library leaves layers as they are.
func (d *Destination) OnlyForDir(transport string) []string {
	var flags []string
	if transport != "dir" {
		if d.compress {
			flags = append(flags, "--"+d.prefix+"compress")
		}
		if d.decompress {
			flags = append(flags, "--"+d.prefix+"decompress")
		}
	}
	return flags
}

// Apply sets in sys what the flags say.
func (d *Destination) Apply(sys *types.SystemContext) error {
	if err := d.Image.Apply(sys); err != nil {
		return err
	}
	sys.DirForceCompress, sys.DirForceDecompress = d.compress, d.decompress
	sys.OCIAcceptUncompressedLayers = d.acceptUncompressed
	sys.DockerRegistryPushPrecomputeDigests = d.precompute
	if d.format != "" {
		algorithm, err := compression.AlgorithmByName(d.format)
		if err != nil {
			return output.Usage("--%scompress-format %q is not known; gzip, zstd and zstd:chunked are", d.prefix, d.format)
		}
		sys.CompressionFormat = &algorithm
	}
	if d.level.Given {
		level, err := strconv.Atoi(d.level.Value)
		if err != nil {
			return output.Usage("--%scompress-level expects a number; got %q", d.prefix, d.level.Value)
		}
		// What the formats' own compressors take; gzip is the format where none is named.
		least, most, name := 0, 9, "gzip"
		if strings.HasPrefix(d.format, "zstd") {
			least, most, name = 1, 20, d.format
		}
		if level < least || level > most {
			return output.Usage("--%scompress-level %d: %s has the levels %d to %d", d.prefix, level, name, least, most)
		}
		sys.CompressionLevel = &level
	}
	return nil
}

// Retry are the flags of trying again.
type Retry struct {
	Times int
	Delay time.Duration
	flags *pflag.FlagSet // nil where there are none
}

// Given reports whether the user said how often; without that, a client of registries decides.
func (r *Retry) Given() bool { return r.flags != nil && r.flags.Changed("retry-times") }

// AddFlags adds them.
func (r *Retry) AddFlags(f *pflag.FlagSet, t Text) {
	r.flags = f
	f.Var(&times{&r.Times}, "retry-times", t("try again this many times", "重试次数"))
	f.Var(&span{&r.Delay}, "retry-delay", t("wait this long before each; else 1s, 2s, 4s …", "重试间隔；默认 1s、2s、4s ……"))
}

// times is a number of times: not less than none.
type times struct{ n *int }

func (t *times) String() string {
	if t.n == nil {
		return "0"
	}
	return strconv.Itoa(*t.n)
}

func (t *times) Set(s string) error {
	n, err := strconv.Atoi(s)
	switch {
	case err != nil:
		return fmt.Errorf("%q is not a number", s)
	case n < 0:
		return fmt.Errorf("%d is less than none; 0 is never again", n)
	}
	*t.n = n
	return nil
}

func (t *times) Type() string { return "int" }

// span is a length of time: not less than none.
type span struct{ d *time.Duration }

func (t *span) String() string {
	if t.d == nil || *t.d == 0 { // which help leaves out
		return "0"
	}
	return t.d.String()
}

func (t *span) Set(s string) error {
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return fmt.Errorf("%q is not a time such as 30s or 5m", s)
	case d < 0:
		return fmt.Errorf("%s is less than no time", d)
	}
	*t.d = d
	return nil
}

func (t *span) Type() string { return "duration" }
