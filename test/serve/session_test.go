//go:build e2e

package serve

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// TestAgent: a step signs with a key that never leaves the client's SSH agent.
func TestAgent(t *testing.T) {
	m := rig.NewMica(t)
	rig.ImportBusybox(t, m, "base")
	s := start(t, m, rig.TempDir(t))
	work := rig.TempDir(t)
	key, socket := filepath.Join(work, "key"), filepath.Join(work, "agent")
	rig.Must(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "key of the tests", "-f", key)
	agent := exec.Command("ssh-agent", "-D", "-a", socket)
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = agent.Process.Kill()
		_ = agent.Wait()
	}()
	rig.Eventually(t, "the agent listens", func() bool { _, err := os.Stat(socket); return err == nil })
	env := append(os.Environ(), "SSH_AUTH_SOCK="+socket)
	add := exec.Command("ssh-add", "-q", key)
	add.Env = env
	if out := rig.Run(t, add); out.Code != 0 {
		t.Fatal(out.Stderr)
	}
	dir := directory(t, map[string]string{"Dockerfile": `FROM base
COPY root /
RUN --mount=type=ssh ssh-add -L && ssh-add -T /key.pub
RUN --mount=type=ssh,id=other test ! -e "$SSH_AUTH_SOCK"
`})
	// ssh-add and the libraries that it needs.
	rig.Must(t, "sh", "-euc", `mkdir -p "$1/root/usr/bin"; cp "$(command -v ssh-add)" "$1/root/usr/bin/"; cp "$2" "$1/root/key.pub"
		ldd "$(command -v ssh-add)" | grep -o '/[^ ]*' | while read -r f; do mkdir -p "$1/root${f%/*}"; cp "$f" "$1/root$f"; done`, "sh", dir, key+".pub")
	build := s.buildctl(t, dir, "--ssh", "default")
	build.Env = env
	out := rig.Run(t, build)
	if out.Code != 0 || !strings.Contains(out.Stderr, " key of the tests\n") {
		t.Errorf("exit code %d\n%s", out.Code, out.Stderr)
	}
	if out := rig.Run(t, s.buildctl(t, dir, "--no-cache")); out.Code == 0 || strings.Contains(out.Stderr, " key of the tests\n") {
		t.Errorf("without an agent: exit code %d\n%s", out.Code, out.Stderr)
	}
}

// dockerConfig is a directory with the credentials of docker's client for a registry.
func dockerConfig(t *testing.T, registry, password string) string {
	t.Helper()
	auth := base64.StdEncoding.EncodeToString([]byte(rig.User + ":" + password))
	data, err := json.Marshal(map[string]any{"auths": map[string]any{registry: map[string]string{"auth": auth}}})
	if err != nil {
		t.Fatal(err)
	}
	return directory(t, map[string]string{"config.json": string(data)})
}

// TestCredentials: a client's credentials push, pull, and reach the registry's cache; those of another client, or none, do not, though the
// server has met the others before.
func TestCredentials(t *testing.T) {
	registry, err := rig.StartSecureRegistry(rig.TempDir(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = registry.Stop() }()
	m := rig.NewMica(t)
	rig.ImportBusybox(t, m, "base")
	m.Env = append(m.Env, "MICA_CERTS_D="+registry.CertsD)
	s := start(t, m, rig.TempDir(t))
	right, wrong := dockerConfig(t, registry.Addr, rig.Password), dockerConfig(t, registry.Addr, "wrong")
	name := registry.Addr + "/team/app"
	build := func(s *server, config, dockerfile string, args ...string) rig.Output {
		cmd := s.buildctl(t, directory(t, map[string]string{"Dockerfile": dockerfile}), args...)
		cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+config)
		return rig.Run(t, cmd)
	}
	made := "FROM base\nRUN echo made >/made\n"
	push := []string{"--output", "type=image,name=" + name + ",push=true", "--export-cache", "type=registry,mode=max,ref=" + name + ":cache"}
	if out := build(s, right, made, push...); out.Code != 0 {
		t.Fatalf("push with credentials:\n%s", out.Stderr)
	}
	for what, config := range map[string]string{"wrong credentials": wrong, "no credentials": rig.TempDir(t)} {
		if out := build(s, config, made, push...); out.Code == 0 || !strings.Contains(strings.ToLower(out.Stderr), "unauthorized") && !strings.Contains(out.Stderr, "denied") {
			t.Errorf("push with %s: exit code %d\n%s", what, out.Code, out.Stderr)
		}
		if out := build(s, config, "FROM "+name+"\nRUN cat /made\n", "--opt", "image-resolve-mode=pull"); out.Code == 0 {
			t.Errorf("pull with %s:\n%s", what, out.Stderr)
		}
	}
	other := rig.NewMica(t)
	archive := filepath.Join(rig.TempDir(t), "base.tar")
	m.Run("save", "-o", archive, "base")
	other.Run("load", "-i", archive)
	other.Env = m.Env
	second := start(t, other, rig.TempDir(t))
	out := build(second, right, made, "--import-cache", "type=registry,ref="+name+":cache")
	if out.Code != 0 || !strings.Contains(out.Stderr, "CACHED") {
		t.Errorf("build with the registry's cache:\n%s", out.Stderr)
	}
	if out := build(second, right, "FROM "+name+"\nRUN cat /made\n"); out.Code != 0 || !strings.Contains(out.Stderr, " made\n") {
		t.Errorf("pull with credentials:\n%s", out.Stderr)
	}
}

// TestTLS: other hosts use the server with a certificate of its authority, and only with one.
func TestTLS(t *testing.T) {
	m := rig.NewMica(t)
	dir, files := rig.TempDir(t), map[string][2]string{} // a certificate and its key
	ca, cas := map[string]string{}, map[string]*rig.Authority{}
	for _, name := range []string{"ours", "theirs"} {
		a, err := rig.NewAuthority()
		if err != nil {
			t.Fatal(err)
		}
		cas[name], ca[name] = a, filepath.Join(dir, name+".pem")
		if err := os.WriteFile(ca[name], a.PEM, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, of := range map[string]string{"server": "ours", "client": "ours", "stranger": "theirs"} {
		cert, key, err := cas[of].Files(rig.TempDir(t))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = [2]string{cert, key}
	}
	s := start(t, m, rig.TempDir(t), "--addr", "tcp://127.0.0.1:0", "--tlscacert", ca["ours"], "--tlscert", files["server"][0], "--tlskey", files["server"][1])
	context := directory(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
	buildctl := func(flags ...string) rig.Output {
		args := append([]string{"--addr", s.tcp}, flags...)
		args = append(args, "build", "--frontend", "dockerfile.v0", "--local", "context="+context, "--local", "dockerfile="+context)
		return rig.Run(t, exec.Command(rig.Binary(t, "peers/buildctl"), args...))
	}
	with := func(ca string, who string) []string {
		return []string{"--tlscacert", ca, "--tlscert", files[who][0], "--tlskey", files[who][1]}
	}
	if out := buildctl(with(ca["ours"], "client")...); out.Code != 0 {
		t.Errorf("a client with a certificate: %s", out.Stderr)
	}
	for what, flags := range map[string][]string{
		"another authority":         with(ca["ours"], "stranger"),
		"no certificate":            {"--tlscacert", ca["ours"]},
		"no TLS":                    nil,
		"server of a false address": with(ca["theirs"], "client"),
	} {
		if out := buildctl(append([]string{"--timeout", "2"}, flags...)...); out.Code == 0 {
			t.Errorf("%s: %s", what, out.Stdout)
		}
	}
}

// TestGroup: the members of a group use the socket, and nobody else.
func TestGroup(t *testing.T) {
	m := rig.NewMica(t)
	rig.Run(t, exec.Command("groupdel", "micagroup"))
	rig.Must(t, "groupadd", "micagroup")
	t.Cleanup(func() { rig.Run(t, exec.Command("groupdel", "micagroup")) })
	dir := rig.TempDir(t)
	rig.Must(t, "chmod", "755", dir)
	s := start(t, m, dir, "--group", "micagroup")
	if got := rig.Must(t, "stat", "-c", "%a %G", strings.TrimPrefix(s.address, "unix://")); got != "660 micagroup\n" {
		t.Errorf("the socket is %s", got)
	}
	for groups, want := range map[string]bool{"micagroup": true, "nogroup": false} {
		out := rig.Run(t, exec.Command("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--groups", groups,
			rig.Binary(t, "peers/buildctl"), "--addr", s.address, "debug", "info"))
		if (out.Code == 0) != want {
			t.Errorf("a member of %s: exit code %d, %s", groups, out.Code, out.Stderr)
		}
	}
}
