package httpd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// The socket is the door for who administers the machine: a Unix socket in the data directory, open to the user that
// berthd runs as and to root. Who can open it could as well read the database; so it asks for no password.

// Peer is who is at the other end of the socket, as the operating system tells.
type Peer struct {
	UID      int  // -1 where the system does not tell
	Admitted bool // the user that berthd runs as, or root
}

type peerKey struct{}

// OverSocket says whether the request came through the socket, and from whom.
func OverSocket(r *http.Request) (Peer, bool) {
	p, ok := r.Context().Value(peerKey{}).(Peer)
	return p, ok
}

// WithPeer returns a context as a request through the socket has it, for programs that serve themselves.
func WithPeer(ctx context.Context, p Peer) context.Context {
	return context.WithValue(ctx, peerKey{}, p)
}

// DialSocket connects to the socket at the path. Errors are those of connect(2): fs.ErrNotExist and ECONNREFUSED say that
// nobody listens, fs.ErrPermission that the caller may not know.
func DialSocket(ctx context.Context, path string) (net.Conn, error) {
	name, done, err := shortened(path)
	if err != nil {
		return nil, err
	}
	defer done()
	var d net.Dialer
	return d.DialContext(ctx, "unix", name)
}

// socket is a Unix listener whose file is this process's alone.
type socket struct {
	*net.UnixListener
	path string
	own  os.FileInfo
	once sync.Once
}

// openSocket listens at the path. A file that a killed process left there is replaced; one at which somebody listens is
// not. The file is 0600 from the moment it has its name.
func openSocket(ctx context.Context, path string) (*socket, error) {
	if runtime.GOOS == "windows" {
		return nil, errors.New("this system has no file rights for sockets")
	}
	if err := vacant(ctx, path); err != nil {
		return nil, err
	}
	fresh := path + "." + strconv.Itoa(os.Getpid())
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	name, done, err := shortened(fresh)
	if err != nil {
		return nil, err
	}
	defer done()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // it has another name by then
	s := &socket{UnixListener: l, path: path}
	if err := s.place(fresh); err != nil {
		return nil, errors.Join(err, l.Close(), os.Remove(fresh))
	}
	return s, nil
}

// vacant refuses a path where somebody listens, or where something else than a socket is.
func vacant(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is there and is no socket", path)
	}
	ctx, stop := context.WithTimeout(ctx, 5*time.Second)
	defer stop()
	conn, err := DialSocket(ctx, path)
	switch {
	case err == nil:
		return errors.Join(fmt.Errorf("another berthd listens at %s", path), conn.Close())
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return err
}

func (s *socket) place(fresh string) (err error) {
	if err = os.Chmod(fresh, 0o600); err != nil {
		return err
	}
	if s.own, err = os.Lstat(fresh); err != nil {
		return err
	}
	return os.Rename(fresh, s.path)
}

// Accept implements net.Listener.
func (s *socket) Accept() (net.Conn, error) {
	c, err := s.AcceptUnix()
	if err != nil {
		return nil, err
	}
	return &peerConn{UnixConn: c, peer: peerOf(c)}, nil
}

// Close implements net.Listener. The file goes away, unless it is another's by now.
func (s *socket) Close() error {
	err := net.ErrClosed
	s.once.Do(func() {
		if info, statErr := os.Lstat(s.path); statErr == nil && os.SameFile(info, s.own) {
			_ = os.Remove(s.path) // a file that stays is replaced by the next start
		}
		err = s.UnixListener.Close()
	})
	return err
}

// peerConn carries who is calling to the requests of the connection.
type peerConn struct {
	*net.UnixConn
	peer Peer
}

// longestSocket is what every system takes: 104 bytes on BSD and macOS, 108 on Linux, with the zero at the end.
const longestSocket = 103

// shortened is a name of the path that fits into a socket address. done must be called after it was used.
func shortened(path string) (name string, done func(), err error) {
	if len(path) <= longestSocket {
		return path, func() {}, nil
	}
	if runtime.GOOS != "linux" {
		return "", nil, fmt.Errorf("the path of the socket has %d bytes, and this system takes %d; name a shorter one with berth.socket: %s", len(path), longestSocket, path)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)), func() { _ = dir.Close() }, nil
}
