package config

import (
	"net"
	"net/url"
	"strings"
	"time"
)

// HTTP says where and how the registry listens.
type HTTP struct {
	Addr           string              `yaml:"addr" default:"127.0.0.1:5000" check:"addr" env:"BERTH_ADDR" flag:"addr" doc:"Host and port to listen on; \":5000\" is every address of this machine. HTTP and TLS share the port." zh:"监听的主机与端口，\":5000\" 表示本机所有地址。HTTP 与 TLS 共用此端口。"`
	Net            string              `yaml:"net" default:"tcp" oneof:"tcp|unix" unsupported:"refuse" effect:"berth listens on TCP only" doc:"Kind of socket: tcp, or unix with a file name in addr." zh:"套接字类型：tcp，或 unix（此时 addr 为文件名）。"`
	Host           string              `yaml:"host" check:"host" env:"BERTH_HOST" flag:"host" doc:"Name or URL under which clients reach the registry, such as registry.example.com or https://registry.example.com:5000. Not set: taken from each request." zh:"客户端访问本仓库所用的名称或 URL，例如 registry.example.com。未设置时取自请求。"`
	Prefix         string              `yaml:"prefix" check:"prefix" unsupported:"refuse" effect:"let the proxy strip it, and name it in http.host: https://HOST/PREFIX" doc:"Path in front of /v2/ when a proxy serves the registry below one, such as /registry/." zh:"反向代理把仓库放在子路径下时，/v2/ 之前的路径，例如 /registry/。"`
	Secret         Secret              `yaml:"secret" doc:"Key that signs the state of uploads. Not set: made once and kept in the data directory." zh:"签名上传状态的密钥。未设置时自动生成并保存在数据目录。"`
	RelativeURLs   bool                `yaml:"relativeurls" default:"false" doc:"Write Location headers without a host." zh:"Location 头不写主机名。"`
	DrainTimeout   time.Duration       `yaml:"draintimeout" default:"25s" check:"natural" doc:"How long running requests may take to end after SIGTERM." zh:"收到 SIGTERM 后等待请求结束的时间。"`
	AllowPlain     bool                `yaml:"allowplain" default:"false" doc:"Accept passwords and tokens over plain HTTP from other machines. Anyone on the way can read them." zh:"允许其他机器通过明文 HTTP 发送密码与令牌，途经者可窃取。"`
	TrustedProxies []string            `yaml:"trustedproxies" check:"cidr" doc:"Addresses or networks of proxies whose X-Forwarded-* headers are believed, such as 10.0.0.0/8." zh:"信任其 X-Forwarded-* 头的代理地址或网段，例如 10.0.0.0/8。"`
	Headers        map[string][]string `yaml:"headers" check:"header" doc:"Headers that every answer carries, such as X-Content-Type-Options: [nosniff]." zh:"每个响应都带的头，例如 X-Content-Type-Options: [nosniff]。"`
	TLS            TLS                 `yaml:"tls" doc:"Certificate. Without one berth makes its own authority; clients get it at /ca.crt." zh:"证书。未提供时 berth 自建 CA，客户端可从 /ca.crt 获取。"`
	Debug          Debug               `yaml:"debug" doc:"A second listener for operators: metrics, health, pprof." zh:"供运维使用的第二个监听：指标、健康检查、pprof。"`
	HTTP2          HTTP2               `yaml:"http2" doc:"HTTP/2 over TLS." zh:"TLS 上的 HTTP/2。"`
	H2C            H2C                 `yaml:"h2c" unsupported:"warn" effect:"plain HTTP is HTTP/1.1" doc:"HTTP/2 without TLS." zh:"明文 HTTP/2。"`
}

// Hostname is the host of Host without scheme, path and port; empty when Host is not set.
func (h HTTP) Hostname() string {
	authority := h.authority()
	if host, _, err := net.SplitHostPort(authority); err == nil {
		return host
	}
	return strings.Trim(authority, "[]")
}

// ExternalURL is Host as a URL without a trailing slash; a bare name means https. It is nil when Host
// is not set, which means: take scheme and host from the request.
func (h HTTP) ExternalURL() *url.URL {
	if h.Host == "" {
		return nil
	}
	if strings.Contains(h.Host, "://") {
		u, err := url.Parse(strings.TrimRight(h.Host, "/"))
		if err != nil {
			return nil
		}
		return u
	}
	return &url.URL{Scheme: "https", Host: h.Host}
}

func (h HTTP) authority() string {
	if u := h.ExternalURL(); u != nil {
		return u.Host
	}
	return ""
}

// TLS is a certificate and how it is used.
type TLS struct {
	Certificate  string      `yaml:"certificate" check:"path" reload:"true" doc:"PEM file of the certificate and its chain. It must name hosts as subjectAltName." zh:"证书（含链）的 PEM 文件，主机名须写在 subjectAltName 中。"`
	Key          string      `yaml:"key" check:"path" reload:"true" doc:"PEM file of its private key." zh:"私钥的 PEM 文件。"`
	ClientCAs    []string    `yaml:"clientcas" check:"path" doc:"PEM files of authorities whose client certificates are asked for." zh:"客户端证书的 CA 文件。"`
	ClientAuth   string      `yaml:"clientauth" oneof:"request-client-cert|require-any-client-cert|verify-client-cert-if-given|require-and-verify-client-cert" doc:"What is asked of a client certificate when clientcas is set; not set, the last. The first two, which verify nothing, are refused." zh:"设置 clientcas 后对客户端证书的要求，未设置时为最后一种。前两种不做校验，会被拒绝。"`
	MinimumTLS   string      `yaml:"minimumtls" default:"tls1.2" oneof:"tls1.0|tls1.1|tls1.2|tls1.3" doc:"Oldest TLS version that is spoken; the first two are read as tls1.2." zh:"最低 TLS 版本，前两种按 tls1.2 处理。"`
	CipherSuites []string    `yaml:"ciphersuites" check:"cipher" doc:"Cipher suites for TLS 1.2 and older, by their Go names. Not set: the safe ones." zh:"TLS 1.2 及更早版本的密码套件。未设置时使用安全的默认值。"`
	LetsEncrypt  LetsEncrypt `yaml:"letsencrypt" doc:"Certificates from an ACME authority; the same as berth.acme, in distribution's words." zh:"由 ACME 机构签发证书，与 berth.acme 相同，为 distribution 的写法。"`
}

// LetsEncrypt is ACME in distribution's words; Load copies it to Berth.ACME.
type LetsEncrypt struct {
	CacheFile    string   `yaml:"cachefile" unsupported:"warn" effect:"certificates from ACME are kept in the data directory" doc:"Where distribution keeps certificates." zh:"distribution 保存证书的位置。"`
	Email        string   `yaml:"email" check:"email" doc:"Contact that the authority may write to." zh:"证书机构的联系邮箱。"`
	Hosts        []string `yaml:"hosts" doc:"Names to ask certificates for." zh:"要申请证书的主机名。"`
	DirectoryURL string   `yaml:"directoryurl" check:"url" doc:"ACME directory. Not set: Let's Encrypt." zh:"ACME 目录地址。未设置时使用 Let's Encrypt。"`
}

// Debug is the listener for operators.
type Debug struct {
	Addr       string     `yaml:"addr" check:"addr" doc:"Host and port, such as 127.0.0.1:5001. Not set: no second listener." zh:"主机与端口，例如 127.0.0.1:5001。未设置则不监听。"`
	Prometheus Prometheus `yaml:"prometheus" doc:"Metrics on this listener." zh:"此监听上的指标。"`
}

// Prometheus says where the debug listener serves metrics.
type Prometheus struct {
	Enabled bool   `yaml:"enabled" default:"true" doc:"Serve metrics on the debug listener." zh:"在此监听上提供指标。"`
	Path    string `yaml:"path" default:"/metrics" check:"urlpath" doc:"Path of the metrics." zh:"指标的路径。"`
}

// HTTP2 switches HTTP/2 over TLS.
type HTTP2 struct {
	Disabled bool `yaml:"disabled" default:"false" doc:"Speak HTTP/1.1 only." zh:"只使用 HTTP/1.1。"`
}

// H2C switches HTTP/2 without TLS.
type H2C struct {
	Enabled bool `yaml:"enabled" default:"false" doc:"Speak HTTP/2 without TLS, for a proxy in front." zh:"为前置代理启用明文 HTTP/2。"`
}
