package registrycmd

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/cli/command/commandtest"
	"github.com/micabuild/mica/internal/registry/registrytest"
)

func TestServer(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]string{
		"": "docker.io", "docker.io": "docker.io", "index.docker.io": "docker.io", "https://index.docker.io/v1/": "docker.io", "registry-1.docker.io": "docker.io",
		"ghcr.io": "ghcr.io", "https://ghcr.io/v2/": "ghcr.io", "http://localhost:5000": "localhost:5000", "localhost:5000/team/app": "localhost:5000",
	} {
		var args []string
		if arg != "" {
			args = []string{arg}
		}
		if got := server(args); got != want {
			t.Errorf("%q: %s, want %s", arg, got, want)
		}
	}
}

// stored are the servers of docker's configuration file that have credentials.
func (f *fixture) stored(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(f.Docker.GetFilename())
	if errors.Is(err, os.ErrNotExist) {
		return ""
	}
	var file struct {
		Auths map[string]struct{ Auth string }
	}
	if err = errors.Join(err, json.Unmarshal(data, &file)); err != nil {
		t.Fatal(err)
	}
	var all []string
	for server, a := range file.Auths {
		all = append(all, strings.ReplaceAll(server, f.reg.Addr, "REG")+" "+a.Auth)
	}
	return strings.Join(all, "\n")
}

// TestLogin: a password that the registry takes is kept in docker's configuration file, and used.
func TestLogin(t *testing.T) {
	t.Parallel()
	const alice = "REG YWxpY2U6c2VjcmV0" // base64 of alice:secret
	f := newFixture(t)
	f.reg.Misbehave(registrytest.Password("alice", "secret"))
	login := func(stdin, args string) outcome {
		r := f.RunWith(t.Context(), strings.NewReader(stdin), NewLoginCommand, strings.Fields(strings.ReplaceAll(args, "REG", f.reg.Addr))...)
		return outcome{r.Stdout, r.Stderr, commandtest.Text(r.Err)}
	}
	if got := login("wrong", "-u alice --password-stdin REG"); !strings.Contains(got.err, "401 Unauthorized") || got.out != "" || f.stored(t) != "" {
		t.Errorf("a wrong password: %+v, stored %q", got, f.stored(t))
	}
	if got := login("secret\n", "-u alice --password-stdin REG"); got != (outcome{out: "Login Succeeded\n"}) || f.stored(t) != alice {
		t.Errorf("%+v, stored %q", got, f.stored(t))
	}
	known := outcome{out: "Login Succeeded\n", stderr: "Authenticating with existing credentials... [Username: alice]\n"}
	if got := login("", "https://REG/v2/"); got != known {
		t.Errorf("%+v, want %+v", got, known)
	}
	f.test(t, NewLogoutCommand, "REG", outcome{out: "Removing login credentials for REG\n"})
	f.test(t, NewLogoutCommand, "REG", outcome{out: "Not logged in to REG\n"})
	if f.stored(t) != "" {
		t.Errorf("after logout: %q", f.stored(t))
	}
	insecure := outcome{out: "Login Succeeded\n", stderr: "WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n"}
	if got := login("", "-u alice -p secret REG"); got != insecure || f.stored(t) != alice {
		t.Errorf("%+v, stored %q", got, f.stored(t))
	}
}

func TestLoginFails(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fails(t, NewLoginCommand, map[string]string{
		"REG":                                "Error: Cannot perform an interactive login from a non TTY device",
		"-u alice REG":                       "Error: Cannot perform an interactive login from a non TTY device",
		"-p secret REG":                      "Error: Cannot perform an interactive login from a non TTY device",
		"--password-stdin REG":               "Must provide --username with --password-stdin",
		"-u alice --password-stdin REG":      "username and password are required", // stdin is empty
		"-u alice -p x --password-stdin REG": "--password and --password-stdin are mutually exclusive",
	})
}

// TestLoginIsInterrupted: a signal ends the wait for a password.
func TestLoginIsInterrupted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("a signal")
	cancel(cause)
	if got := f.RunWith(ctx, r, NewLoginCommand, "-u", "alice", "--password-stdin", f.reg.Addr); !errors.Is(got.Err, cause) {
		t.Errorf("%+v", got)
	}
}
