package server

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/berth-registry/berth/server/config"
	"github.com/berth-registry/berth/server/httpd"
)

// ownSocket is the default of berth.socket.
const ownSocket = "berthd.sock"

// Sockets are where a berthd of the configuration may listen for commands of this machine, the likeliest first.
func Sockets(c *config.Config) []string {
	path := socketPath(c)
	if path == "" {
		return nil
	}
	all := []string{path}
	if c.Berth.Socket == ownSocket {
		others, _ := filepath.Glob(replicaSocket(c, "*")) // the pattern is well-formed
		all = append(all, others...)
	}
	return all
}

func socketPath(c *config.Config) string {
	switch path := c.Berth.Socket; {
	case path == "", path == "off":
		return ""
	case filepath.IsAbs(path):
		return path
	default:
		return filepath.Join(c.Berth.Data, path)
	}
}

// replicaSocket is the socket of one of several berthds that share a data directory, perhaps from other machines, whose
// sockets cannot be reached from here and look as if nobody listened.
func replicaSocket(c *config.Config, process string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	host = strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\*?[]`, r) {
			return '-'
		}
		return r
	}, host)
	return filepath.Join(c.Berth.Data, "berthd-"+host+"-"+process+".sock")
}

// socket is where this berthd listens; a registry that cannot have its default socket serves without.
func (s *Server) socket(ctx context.Context) (path string, optional bool) {
	c := s.conf
	path = socketPath(c)
	if c.Berth.Socket != ownSocket {
		return path, false
	}
	if s.replicated() {
		path = replicaSocket(c, strconv.Itoa(os.Getpid()))
		s.dropSockets(ctx)
	}
	return path, true
}

// dropSockets removes what killed replicas of this machine left: the next process has another number, so none would be
// replaced.
func (s *Server) dropSockets(ctx context.Context) {
	left, _ := filepath.Glob(replicaSocket(s.conf, "*"))
	for _, path := range left {
		ctx, stop := context.WithTimeout(ctx, time.Second)
		conn, err := httpd.DialSocket(ctx, path)
		stop()
		switch {
		case err == nil:
			_ = conn.Close()
		case errors.Is(err, syscall.ECONNREFUSED):
			_ = os.Remove(path)
		}
	}
}
