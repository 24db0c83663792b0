package rig

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Serve starts mica serve on a socket in dir, which its user may write, until the test ends. It returns the socket's address.
func Serve(t testing.TB, m *Mica, dir string) string {
	t.Helper()
	address := "unix://" + filepath.Join(dir, "mica.sock")
	cmd := m.Command("serve", "--addr", address)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != address+"\n" {
		t.Fatalf("mica serve says %q, %v", line, err)
	}
	return address
}

// Client is the docker command of Docker 29, with its plugins, and an engine that it talks to.
type Client struct {
	t      testing.TB
	Env    []string
	Prefix []string // put before the command: as another user
	config string
}

// NewClient gives a docker for the engine at an address. Its configuration is in dir, which its user may write, and lets docker images print
// the columns that it had before Docker 29.
func NewClient(t testing.TB, address, dir string) *Client {
	t.Helper()
	c := &Client{t: t, config: filepath.Join(dir, "docker-config")}
	c.Env = []string{"DOCKER_HOST=" + address, "DOCKER_CONFIG=" + c.config, "HOME=" + dir, "LC_ALL=C.UTF-8", "NO_COLOR=1", ""}
	c.configure(filepath.Dir(Binary(t, "clients/docker")))
	return c
}

// configure makes docker and its plugins those of a directory.
func (c *Client) configure(bin string) {
	c.t.Helper()
	text := fmt.Sprintf("{\"cliPluginsExtraDirs\": [%q], \"imagesFormat\": \"table\"}", bin)
	if err := os.MkdirAll(c.config, 0o700); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.config, "config.json"), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.Env[len(c.Env)-1] = "PATH=" + bin + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
}

// As makes the client run as the user of a mica, who gets copies of the programs.
func (c *Client) As(m *Mica) {
	c.t.Helper()
	bin := filepath.Join(filepath.Dir(m.Path), "clients")
	Must(c.t, "cp", "-r", filepath.Dir(Binary(c.t, "clients/docker")), bin)
	c.configure(bin)
	Must(c.t, "chmod", "-R", "a+rwX", c.config)
	c.Prefix = m.Prefix
}

// Command is docker with args, not yet started.
func (c *Client) Command(args ...string) *exec.Cmd { return c.Program("docker", args...) }

// Program is a program that finds docker and the engine.
func (c *Client) Program(name string, args ...string) *exec.Cmd {
	argv := append(append(append([]string{}, c.Prefix...), "env"), c.Env...)
	argv = append(append(argv, name), args...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = environment()
	return cmd
}

// Try runs docker and gives what came of it.
func (c *Client) Try(stdin io.Reader, args ...string) Output {
	c.t.Helper()
	cmd := c.Command(args...)
	cmd.Stdin = stdin
	return Run(c.t, cmd)
}

// Run runs docker, which must succeed, and gives its stdout.
func (c *Client) Run(args ...string) string {
	c.t.Helper()
	out := c.Try(nil, args...)
	if out.Code != 0 {
		c.t.Fatalf("docker %s: exit code %d\n%s%s", strings.Join(args, " "), out.Code, out.Stdout, out.Stderr)
	}
	return out.Stdout
}
