// Package sshagent offers SSH keys, or the user's SSH agent, to the steps of a build. Steps can only sign with the keys.
package sshagent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/crash"
)

// Source describes one agent, as `--ssh` does.
type Source struct {
	// ID is its name in a step, "default" for "".
	ID string
	// Paths are private keys, or one socket; none means the agent of $SSH_AUTH_SOCK.
	Paths []string
	// Raw forwards every byte to the socket, which need not be that of an agent.
	Raw bool
}

// DefaultID is the ID of the agent for a step that names none.
const DefaultID = "default"

const (
	maxKey   = 100 << 10 // bytes of a private key
	dialTime = 2 * time.Second
)

// Serve serves one connection and closes it.
type Serve = func(net.Conn)

// Agents are the agents of a build, by their IDs.
type Agents map[string]Serve

// Get returns an agent, nil for none.
func (a Agents) Get(_ context.Context, id string) Serve { return a[id] }

// New prepares the agents. It reads keys now, and connects to a socket when a step does.
func New(sources []Source) (Agents, error) {
	agents := Agents{}
	for _, s := range sources {
		id := cmp.Or(s.ID, DefaultID)
		if agents[id] != nil {
			return nil, fmt.Errorf("ssh agent %q is named twice", id)
		}
		serve, err := s.open()
		if err != nil {
			return nil, fmt.Errorf("ssh agent %q: %w", id, err)
		}
		agents[id] = serve
	}
	return agents, nil
}

func (s *Source) open() (Serve, error) {
	paths := s.Paths
	if len(paths) == 0 || len(paths) == 1 && paths[0] == "" {
		socket := os.Getenv("SSH_AUTH_SOCK")
		if socket == "" {
			return nil, errors.New("no agent is running: $SSH_AUTH_SOCK is not set")
		}
		paths = []string{socket}
	}
	keys := agent.NewKeyring()
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if info.Mode()&os.ModeSocket != 0 {
			if len(paths) > 1 {
				return nil, errors.New("a socket must be alone: it cannot be combined with keys or with another")
			}
			return forward(path, s.Raw)
		}
		if s.Raw {
			return nil, fmt.Errorf("%s is not a socket: raw needs one", path)
		}
		if err := addKey(keys, path); err != nil {
			return nil, err
		}
	}
	return func(c net.Conn) { serveAgent(c, keys) }, nil
}

func addKey(keys agent.Agent, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKey))
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	key, err := ssh.ParseRawPrivateKey(data)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		return fmt.Errorf("key %s has a passphrase: add it to an agent with ssh-add, and forward that", path)
	}
	if err == nil {
		err = keys.Add(agent.AddedKey{PrivateKey: key})
	}
	if err != nil {
		return fmt.Errorf("key %s: %w", path, err)
	}
	return nil
}

// serveAgent serves the protocol of agents (draft-miller-ssh-agent) until the connection ends.
func serveAgent(c net.Conn, a agent.Agent) {
	defer func() { _ = c.Close() }()
	_ = crash.Guard(func() error { return agent.ServeAgent(&signer{a}, c) })()
}

// forward forwards connections to a socket: that which the path names now, wherever it is moved.
func forward(path string, raw bool) (Serve, error) {
	socket, err := os.OpenFile(path, unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	return func(c net.Conn) {
		defer func() { _ = c.Close() }()
		to, err := net.DialTimeout("unix", fmt.Sprintf("/proc/self/fd/%d", socket.Fd()), dialTime) //nolint:gosec // the socket that the user named
		if err != nil {
			return // the step sees that the connection ended
		}
		defer func() { _ = to.Close() }()
		if raw {
			go func() {
				_, _ = io.Copy(to, c)
				_ = to.(*net.UnixConn).CloseWrite()
			}()
			_, _ = io.Copy(c, to)
			return
		}
		serveAgent(c, agent.NewClient(to))
	}, nil
}

// signer is an agent that lists its keys and signs with them. A step cannot change the user's agent.
type signer struct{ agent.Agent }

var errReadOnly = errors.New("a build step may only use the keys")

func (*signer) Add(agent.AddedKey) error   { return errReadOnly }
func (*signer) Remove(ssh.PublicKey) error { return errReadOnly }
func (*signer) RemoveAll() error           { return errReadOnly }
func (*signer) Lock([]byte) error          { return errReadOnly }
func (*signer) Unlock([]byte) error        { return errReadOnly }

// SignWithFlags makes a signature of the newer kinds too, rsa-sha2-256 and rsa-sha2-512.
func (s *signer) SignWithFlags(key ssh.PublicKey, data []byte, flags agent.SignatureFlags) (*ssh.Signature, error) {
	if a, ok := s.Agent.(agent.ExtendedAgent); ok {
		return a.SignWithFlags(key, data, flags)
	}
	return s.Sign(key, data)
}

// Extension supports none.
func (*signer) Extension(string, []byte) ([]byte, error) { return nil, agent.ErrExtensionUnsupported }
