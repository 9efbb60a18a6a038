package server

import (
	"bytes"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"github.com/berth-registry/berth/internal/durable"
)

// FirstRun is what a new data directory has to tell its owner once.
type FirstRun struct {
	New      bool   // the data directory was made by this start
	Password string // of the account admin, when it was made up by this start; "" otherwise
}

// greeting is what the start says to people, in both languages. The order of the arguments is the same in both.
type greeting struct {
	fresh, known                               string
	web, registry, login, once, configured, ca string
	loopback, others, stop                     string
}

func greetings(language string) greeting {
	if language == "zh-CN" {
		return greeting{
			fresh: "berthd %s   新建数据目录 %s   %s\n\n", known: "berthd %s   数据目录 %s   %s\n",
			web: "网址", registry: "仓库", login: "登录", once: "仅显示一次；也保存在 %s（权限 0600）",
			configured: "使用配置中的密码", ca: "CA",
			loopback: "  仅监听 %s。供其他机器访问：berthd --addr :%s --host registry.example.com\n",
			others:   "  监听 %s\n", stop: "  English: BERTH_LANG=en berthd    ·    停止：Ctrl-C\n",
		}
	}
	return greeting{
		fresh: "berthd %s   new data directory %s   %s\n\n", known: "berthd %s   data directory %s   %s\n",
		web: "Address", registry: "Registry", login: "Login", once: "shown once; also in %s (0600)",
		configured: "with the configured password", ca: "CA",
		loopback: "  listening on %s only. Other machines: berthd --addr :%s --host registry.example.com\n",
		others:   "  listening on %s\n", stop: "  中文: BERTH_LANG=zh-CN berthd    ·    stop: Ctrl-C\n",
	}
}

// announce says where the registry is. A person gets lines, and on the first start all that is needed for a first push;
// a log gets one record, never with the password.
func (s *Server) announce() error {
	host, port := s.reach()
	address := net.JoinHostPort(host, port)
	block := s.block(host, port)
	if s.first.Password != "" {
		// The file is the only place where the password stays, so it must be there before anything refers to it.
		if err := durable.WriteFile(s.firstRunFile(), block, 0o600); err != nil {
			return fmt.Errorf("first-run file: %w", err)
		}
	}
	if s.o.Console {
		out := block
		if !s.first.New && s.first.Password == "" {
			out = s.short(address)
		}
		_, err := s.o.Stderr.Write(out)
		return err
	}
	attrs := []any{"version", s.o.Build.Version, "address", s.http.Addr().String(), "registry", address, "data", s.conf.Berth.Data, "ca", s.certs.Fingerprint()}
	if s.first.Password != "" {
		attrs = append(attrs, "password", "in "+s.firstRunFile())
	}
	s.log.Info("berthd is ready", attrs...)
	return nil
}

func (s *Server) firstRunFile() string { return filepath.Join(s.conf.Berth.Data, "first-run.txt") }

// reach is the host and port that the lines for clients name.
func (s *Server) reach() (host, port string) {
	bound, port, _ := net.SplitHostPort(s.http.Addr().String())
	if u := s.conf.HTTP.ExternalURL(); u != nil {
		if p := u.Port(); p != "" {
			port = p
		}
		return u.Hostname(), port
	}
	if ip := net.ParseIP(bound); ip != nil && !ip.IsLoopback() && !ip.IsUnspecified() {
		return bound, port
	}
	return "localhost", port
}

func (s *Server) configNote() string {
	if f := s.o.Config.File; f != "" {
		return "(" + f + ")"
	}
	if s.conf.Berth.Language == "zh-CN" {
		return "（无配置文件：使用内置默认值）"
	}
	return "(no config file: built-in defaults)"
}

func (s *Server) short(address string) []byte {
	var b bytes.Buffer
	t := greetings(s.conf.Berth.Language)
	fmt.Fprintf(&b, t.known, s.o.Build.Version, s.conf.Berth.Data, s.configNote())
	fmt.Fprintf(&b, "  https://%s   http://%s", address, address)
	if exists(s.firstRunFile()) {
		fmt.Fprintf(&b, "   %s: %s", t.login, s.firstRunFile())
	}
	b.WriteString("\n")
	s.listening(&b, t)
	return b.Bytes()
}

func (s *Server) listening(b *bytes.Buffer, t greeting) {
	bound := s.http.Addr().String()
	host, port, _ := net.SplitHostPort(bound)
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		fmt.Fprintf(b, t.loopback, bound, port)
		return
	}
	fmt.Fprintf(b, t.others, bound)
}

// block is the first run's text. Its docker and podman lines are typed by tests as they stand.
func (s *Server) block(host, port string) []byte {
	var b bytes.Buffer
	t := greetings(s.conf.Berth.Language)
	at := net.JoinHostPort(host, port)
	fmt.Fprintf(&b, t.fresh, s.o.Build.Version, s.conf.Berth.Data, s.configNote())
	fmt.Fprintf(&b, "  %s http://%s          https://%s\n", column(t.web), at, at)
	fmt.Fprintf(&b, "  %s %s\n", column(t.registry), at)
	switch {
	case s.first.Password != "":
		fmt.Fprintf(&b, "  %s admin / %s         %s\n", column(t.login), s.first.Password, fmt.Sprintf(t.once, s.firstRunFile()))
	default:
		fmt.Fprintf(&b, "  %s admin              %s\n", column(t.login), t.configured)
	}
	if fp := s.certs.Fingerprint(); fp != "" {
		fmt.Fprintf(&b, "  %s SHA256 %s\n", column(t.ca), fp)
		if s.certs.CA() != nil {
			fmt.Fprintf(&b, "  %s https://%s/ca.crt\n", column(""), at)
		}
	}
	b.WriteString("\n")
	fmt.Fprintf(&b, "  docker     docker login %s -u admin\n", at)
	fmt.Fprintf(&b, "             docker tag alpine %s/library/alpine && docker push %s/library/alpine\n", at, at)
	for i, line := range s.podmanLines(at) {
		label := "podman"
		if i > 0 {
			label = ""
		}
		fmt.Fprintf(&b, "  %s %s\n", column(label), line)
	}
	b.WriteString("\n")
	s.listening(&b, t)
	b.WriteString(t.stop)
	return b.Bytes()
}

// column pads a label to its place; a Chinese character is as wide as two letters.
func column(label string) string {
	width := 0
	for _, r := range label {
		width++
		if r > 0x2e80 {
			width++
		}
	}
	return label + strings.Repeat(" ", max(10-width, 0))
}

// podmanLines begin with the trust in the self-made CA, which podman wants on localhost as well; a certificate that
// the system trusts needs nothing. The image tool shows the fingerprint that stands above and asks.
func (s *Server) podmanLines(at string) (lines []string) {
	if s.certs.CA() != nil {
		lines = append(lines, "berth trust "+at)
	}
	return append(lines, "podman login "+at+" -u admin && podman push alpine "+at+"/library/alpine")
}
