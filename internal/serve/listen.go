package serve

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
)

// Access says who may use a socket.
type Access struct {
	// Group is the name or ID of a group of the host whose members may use unix sockets; "" for none.
	Group string
	// TLS has the certificates of sockets that other hosts reach; nil for none.
	TLS *tls.Config
}

// Listen opens the socket of an address: unix://PATH, or tcp://HOST:PORT with mutual TLS.
func Listen(ctx context.Context, address string, a Access) (net.Listener, error) {
	scheme, rest, ok := strings.Cut(address, "://")
	switch {
	case ok && scheme == "unix" && filepath.IsAbs(rest):
		l, err := listenUnix(ctx, rest, a.Group)
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", address, err)
		}
		return l, nil
	case ok && scheme == "tcp" && a.TLS == nil:
		return nil, fmt.Errorf("listen on %s: other users and hosts may reach it: give --tlscacert, --tlscert and --tlskey, or use a unix socket", address)
	case ok && scheme == "tcp":
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", rest)
		if err != nil {
			return nil, err
		}
		return &socket{Listener: l, tls: a.TLS}, nil
	}
	return nil, fmt.Errorf("invalid address %q: it is neither unix:///PATH nor tcp://HOST:PORT", address)
}

// Activated returns the sockets that systemd has opened for this process; none if systemd has not started it for a socket. Who may use unix
// sockets is written in systemd's unit.
func Activated(a Access) (list []net.Listener, err error) {
	passed, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("take the sockets of systemd: %w", err)
	}
	for _, l := range passed {
		s := &socket{Listener: l}
		switch l := l.(type) {
		case *net.UnixListener:
			l.SetUnlinkOnClose(false) // systemd listens on
		case *net.TCPListener:
			if s.tls = a.TLS; a.TLS == nil {
				err = fmt.Errorf("listen on tcp://%s for systemd: other users and hosts may reach it: give --tlscacert, --tlscert and --tlskey", l.Addr())
			}
		default:
			err = errors.New("take the sockets of systemd: one is neither a unix nor a tcp socket that accepts connections")
		}
		list = append(list, s)
	}
	if err != nil {
		for _, l := range passed {
			if l != nil {
				err = errors.Join(err, l.Close())
			}
		}
		return nil, err
	}
	return list, nil
}

// LoadTLS returns the configuration of a server that shows its certificate, and knows its clients by certificates of an authority.
func LoadTLS(ca, cert, key string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, fmt.Errorf("read certificate authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read certificate authority: %s has no certificate", ca)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
	}, nil
}

// listenUnix opens a socket that only its owner and the group may use. It replaces one whose server has ended.
func listenUnix(ctx context.Context, path, group string) (net.Listener, error) {
	if err := checkFree(path); err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	// The socket gets its permissions in a directory that nobody else can read, before it has its name.
	private, err := os.MkdirTemp(dir, ".")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(private) }()
	made := filepath.Join(private, "s")
	l, err := new(net.ListenConfig).Listen(ctx, "unix", made)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	err = setGroup(made, group)
	if err == nil {
		err = os.Rename(made, path)
	}
	info, statErr := os.Lstat(path)
	if err = errors.Join(err, statErr); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &socket{Listener: l, path: path, info: info}, nil
}

// socket is a listener whose file is removed with it, unless it is that of another server.
type socket struct {
	net.Listener
	tls  *tls.Config // nil for none
	path string      // "" if the file is not the server's
	info os.FileInfo
}

func (s *socket) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err == nil && s.tls != nil {
		c = tls.Server(c, s.tls)
	}
	return c, err
}

// SetDeadline ends an Accept that waits.
func (s *socket) SetDeadline(t time.Time) error {
	return s.Listener.(interface{ SetDeadline(t time.Time) error }).SetDeadline(t)
}

func (s *socket) Close() error {
	if now, err := os.Lstat(s.path); s.path != "" && err == nil && os.SameFile(now, s.info) {
		_ = os.Remove(s.path)
	}
	return s.Listener.Close()
}

// checkFree refuses the path of a file that is not a socket, and of a socket that has a server.
func checkFree(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != os.ModeSocket:
		return errors.New("the file exists and is not a socket")
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = c.Close()
		return errors.New("another server uses this socket")
	}
	return nil
}

// setGroup sets the permissions of a socket.
func setGroup(path, group string) error {
	if group == "" {
		return os.Chmod(path, 0o600)
	}
	gid, err := strconv.Atoi(group)
	if err != nil {
		g, err := user.LookupGroup(group)
		if err != nil {
			return err
		}
		if gid, err = strconv.Atoi(g.Gid); err != nil {
			return err
		}
	}
	if err := os.Chown(path, -1, gid); err != nil {
		return fmt.Errorf("give the socket to group %s: %w", group, err)
	}
	return os.Chmod(path, 0o660)
}
