package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// Every target runs with its defaults, but without authentication and with deletes allowed, and logs as it does by default:
// a figure that needs a switched-off access log is not what its users get.

func commandBerthd(l launch) (argv, env []string, err error) {
	env = []string{
		"BERTH_ANONYMOUS=delete",
		"BERTH_DATA=" + filepath.Join(l.dir, "data"),
		"BERTH_HTTP_DEBUG_ADDR=" + l.debug,
	}
	return []string{l.binary, "--addr", l.addr}, env, nil
}

func commandSelf(handler string) func(launch) ([]string, []string, error) {
	return func(l launch) (argv, env []string, err error) {
		argv = []string{l.binary, "serve", handler, "-addr", l.addr, "-dir", l.dir}
		if l.cert != "" {
			argv = append(argv, "-cert", l.cert, "-key", l.key)
		}
		return argv, nil, nil
	}
}

// storeDir is where the process of a kind keeps content.
func storeDir(l launch) string { return filepath.Join(l.dir, "store") }

func commandNginx(l launch) (argv, env []string, err error) {
	for _, d := range []string{"html", "tmp"} {
		if err := os.MkdirAll(filepath.Join(l.dir, d), 0o755); err != nil {
			return nil, nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(l.dir, "html", "ready"), []byte("ready\n"), 0o644); err != nil {
		return nil, nil, err
	}
	listen := l.addr
	if l.cert != "" {
		listen += " ssl;\n    ssl_certificate " + l.cert + ";\n    ssl_certificate_key " + l.key
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;\n"
	}
	conf := fmt.Sprintf(`%sworker_processes 4;
pid %[2]s/nginx.pid;
error_log %[2]s/error.log;
events { worker_connections 1024; }
http {
  access_log %[2]s/access.log;
  client_body_temp_path %[2]s/tmp; proxy_temp_path %[2]s/tmp; fastcgi_temp_path %[2]s/tmp; uwsgi_temp_path %[2]s/tmp; scgi_temp_path %[2]s/tmp;
  sendfile on; tcp_nopush on; keepalive_requests 1000000;
  default_type application/octet-stream;
  server {
    listen %[3]s;
    root %[2]s/html;
  }
}
`, user, l.dir, listen)
	path := filepath.Join(l.dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(conf), 0o644); err != nil {
		return nil, nil, err
	}
	return []string{l.binary, "-p", l.dir, "-c", path, "-g", "daemon off;"}, nil, nil
}

// commandDistribution configures distribution 2 and 3, whose grammar is the same here.
func commandDistribution(l launch) (argv, env []string, err error) {
	conf := fmt.Sprintf(`version: 0.1
log:
  level: info
storage:
  filesystem:
    rootdirectory: %s
  cache:
    blobdescriptor: inmemory
  delete:
    enabled: true
catalog:
  maxentries: 100000
http:
  addr: %s
  secret: bench
`, storeDir(l), l.addr)
	if l.cert != "" {
		conf += fmt.Sprintf("  tls:\n    certificate: %s\n    key: %s\n", l.cert, l.key)
	}
	path := filepath.Join(l.dir, "config.yml")
	if err := os.WriteFile(path, []byte(conf), 0o644); err != nil {
		return nil, nil, err
	}
	return []string{l.binary, "serve", path}, []string{"OTEL_TRACES_EXPORTER=none"}, nil
}

func commandZot(l launch) (argv, env []string, err error) {
	host, port, err := net.SplitHostPort(l.addr)
	if err != nil {
		return nil, nil, err
	}
	http := map[string]any{"address": host, "port": port}
	if l.cert != "" {
		http["tls"] = map[string]string{"cert": l.cert, "key": l.key}
	}
	conf, err := json.Marshal(map[string]any{
		"storage": map[string]any{"rootDirectory": storeDir(l)},
		"http":    http,
		"log":     map[string]string{"level": "info"},
	})
	if err != nil {
		return nil, nil, err
	}
	path := filepath.Join(l.dir, "config.json")
	if err := os.WriteFile(path, conf, 0o644); err != nil {
		return nil, nil, err
	}
	return []string{l.binary, "serve", path}, nil, nil
}

func commandOlareg(l launch) (argv, env []string, err error) {
	host, port, ok := strings.Cut(l.addr, ":")
	if !ok {
		return nil, nil, fmt.Errorf("address %q has no port", l.addr)
	}
	argv = []string{l.binary, "serve", "--dir", storeDir(l), "--addr", host, "--port", port}
	if l.cert != "" {
		argv = append(argv, "--tls-cert", l.cert, "--tls-key", l.key)
	}
	return argv, nil, nil
}
