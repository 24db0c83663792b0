package sshagent

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// newKey writes a private key and returns its path; a passphrase locks it.
func newKey(t *testing.T, passphrase string) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var block *pem.Block
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(key, "test")
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "test", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// client speaks to an agent as a step does.
func client(t *testing.T, serve Serve) agent.ExtendedAgent {
	t.Helper()
	here, there := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		serve(there)
	}()
	t.Cleanup(func() {
		_ = here.Close()
		<-done
	})
	return agent.NewClient(here)
}

func TestKeysSignAndStay(t *testing.T) {
	agents, err := New([]Source{{Paths: []string{newKey(t, "")}}})
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go agents[DefaultID](c)
		}
	}()
	forwarded, err := New([]Source{{ID: "socket", Paths: []string{socket}}, {ID: "raw", Paths: []string{socket}, Raw: true}})
	if err != nil {
		t.Fatal(err)
	}
	for name, serve := range map[string]Serve{"keys": agents[DefaultID], "socket": forwarded["socket"], "raw": forwarded["raw"]} {
		t.Run(name, func(t *testing.T) {
			a := client(t, serve)
			keys, err := a.List()
			if err != nil || len(keys) != 1 {
				t.Fatalf("%v %v", keys, err)
			}
			sig, err := a.Sign(keys[0], []byte("data"))
			if err != nil {
				t.Fatal(err)
			}
			if err := keys[0].Verify([]byte("data"), sig); err != nil {
				t.Error(err)
			}
			if err := a.RemoveAll(); err == nil {
				t.Error("a step could remove the keys")
			}
			if err := a.Lock([]byte("x")); err == nil {
				t.Error("a step could lock the agent")
			}
		})
	}
}

func TestWhatIsNoAgent(t *testing.T) {
	t.Setenv("SSH_AUTH_SOCK", "")
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	key := newKey(t, "")
	for name, c := range map[string]struct {
		sources []Source
		want    string
	}{
		"no agent":   {[]Source{{}}, "SSH_AUTH_SOCK is not set"},
		"missing":    {[]Source{{Paths: []string{"/missing"}}}, "no such file"},
		"text":       {[]Source{{Paths: []string{text}}}, "no key found"},
		"passphrase": {[]Source{{Paths: []string{newKey(t, "x")}}}, "has a passphrase"},
		"raw key":    {[]Source{{Paths: []string{key}, Raw: true}}, "is not a socket"},
		"twice":      {[]Source{{Paths: []string{key}}, {ID: "default", Paths: []string{key}}}, "named twice"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := New(c.sources); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}
