//go:build e2e

package guide

import (
	"archive/tar"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/test/rig"
)

// trouble is what scenes need: root's mica and an ordinary user's, both with the image base.
type trouble struct {
	*testing.T
	root, user rig.Mica
	dir        string
}

// scenes returns, for each error of docs/troubleshooting.md by a part of it, what makes mica print it.
func scenes() map[string]func(*trouble) string {
	return map[string]func(*trouble) string{
		"no OCI runtime": func(x *trouble) string { return x.rootWith("PATH=/nonexistent", "run", "base", "true") },
		"WARNING: RUN uses": func(x *trouble) string {
			return x.rootWith("PATH="+x.onlyCrun(), "build", x.dockerfile("FROM base\nRUN true"))
		},
		"publish ports":             func(x *trouble) string { return x.rootWith("PATH="+x.onlyCrun(), "run", "-p", "80", "base", "true") },
		"address already in use":    (*trouble).portInUse,
		"bind: permission denied":   func(x *trouble) string { return x.mica(&x.user, "run", "-p", "80:80", "base", "true") },
		"executable file not found": func(x *trouble) string { return x.mica(&x.root, "run", "base", "nonexistent") },
		"named volumes":             func(x *trouble) string { return x.mica(&x.root, "run", "-v", "data:/data", "base", "true") },
		"--detach":                  func(x *trouble) string { return x.mica(&x.root, "run", "-d", "base") },
		"unknown command":           func(x *trouble) string { return x.mica(&x.root, "ps") },
		"exec format error":         (*trouble).otherProcessor,

		"package uidmap":      (*trouble).withoutUidmap,
		"files of owners":     (*trouble).withoutRanges,
		"max_user_namespaces": (*trouble).withoutNamespaces,
		"open store: open":    func(x *trouble) string { return x.mica(&x.user, "--root", "/root/store", "images") },

		"did not complete":  func(x *trouble) string { return x.build("FROM base\nRUN false") },
		"compute cache key": func(x *trouble) string { return x.build("FROM base\nCOPY missing /") },
		"read dockerfile":   func(x *trouble) string { return x.mica(&x.root, "build", x.dir) },
		"--secret": func(x *trouble) string {
			return x.build("FROM base\nRUN --mount=type=secret,id=token,required=true true")
		},
		"SSH key":                  func(x *trouble) string { return x.build("FROM base\nRUN --mount=type=ssh,required=true true") },
		"network.host is not":      func(x *trouble) string { return x.build("FROM base\nRUN --network=host true") },
		"security.insecure is not": func(x *trouble) string { return x.build("FROM base\nRUN --security=insecure true") },
		"front end":                func(x *trouble) string { return x.build("# syntax=base\nFROM base") },
		"unknown cache type":       func(x *trouble) string { return x.mica(&x.root, "build", "--cache-to", "type=other", x.dir) },
		"cannot be reached":        func(x *trouble) string { return x.mica(&x.root, "pull", "127.0.0.1:1/app") },
		"does not support TLS":     (*trouble).plainRegistry,
		"x509":                     func(x *trouble) string { return x.secureRegistry(false) },
		"access to":                func(x *trouble) string { return x.secureRegistry(true) },
		"does not exist locally":   func(x *trouble) string { return x.mica(&x.root, "push", "127.0.0.1:1/missing") },
		"no space left":            (*trouble).fullDisk,
		"it unpacks to more than":  (*trouble).large,
		"another format":           (*trouble).otherStore,
	}
}

// TestTroubleshooting: mica prints each error that docs/troubleshooting.md explains.
func TestTroubleshooting(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(rig.Top(), "docs", "troubleshooting.md"))
	if err != nil {
		t.Fatal(err)
	}
	root, user := rig.NewMica(t), rig.AsUser(t, "mica-trouble", true)
	importSmall(t, root)
	importSmall(t, user)
	all := scenes()
	for _, m := range regexp.MustCompile("(?m)^### `(.+)`$").FindAllStringSubmatch(string(page), -1) {
		text := m[1]
		var name string
		for part := range all {
			if strings.Contains(text, part) {
				name = part
			}
		}
		if name == "" {
			t.Errorf("no scene produces %q", text)
			continue
		}
		t.Run(name, func(t *testing.T) {
			out := all[name](&trouble{t, *root, *user, rig.TempDir(t)})
			pattern := strings.ReplaceAll(regexp.QuoteMeta(text), "…", ".*")
			if !regexp.MustCompile(pattern).MatchString(out) {
				t.Errorf("mica printed\n%s\nthe page has\n%s", out, text)
			}
		})
		delete(all, name)
	}
	for name := range all {
		t.Errorf("the page does not explain %q", name)
	}
}

// importSmall imports the image base: busybox and a file of an owner.
func importSmall(t *testing.T, m *rig.Mica) {
	t.Helper()
	dir, err := rig.BusyboxTree(rig.TempDir(t))
	if err != nil {
		t.Fatal(err)
	}
	m.RunIn(strings.NewReader(rig.Must(t, "tar", "-C", dir, "-c", ".")), "import", "-", "base")
}

// mica runs mica and returns all that it prints.
func (x *trouble) mica(m *rig.Mica, args ...string) string {
	x.Helper()
	return x.run(m.Command(args...))
}

func (x *trouble) run(cmd *exec.Cmd) string {
	x.Helper()
	out := rig.Run(x, cmd)
	return out.Stdout + out.Stderr
}

// rootWith is root's mica with one more environment variable.
func (x *trouble) rootWith(env string, args ...string) string {
	x.root.Env = []string{env}
	return x.mica(&x.root, args...)
}

func (x *trouble) build(dockerfile string) string {
	return x.mica(&x.root, "build", x.dockerfile(dockerfile))
}

// dockerfile makes a context of a Dockerfile.
func (x *trouble) dockerfile(text string) string {
	x.write("Dockerfile", text+"\n")
	return x.dir
}

func (x *trouble) write(name, text string) string {
	x.Helper()
	file := filepath.Join(x.dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		x.Fatal(err)
	}
	return file
}

// onlyCrun is a directory for PATH without pasta.
func (x *trouble) onlyCrun() string {
	x.Helper()
	crun, err := exec.LookPath("crun")
	if err != nil {
		x.Fatal(err)
	}
	dir := rig.TempDir(x)
	if err := os.Symlink(crun, filepath.Join(dir, "crun")); err != nil {
		x.Fatal(err)
	}
	return dir
}

func (x *trouble) portInUse() string {
	l, err := (&net.ListenConfig{}).Listen(x.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		x.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return x.mica(&x.root, "run", "-p", l.Addr().String()+":80", "base", "true")
}

// otherProcessor runs the header of a program for arm64.
func (x *trouble) otherProcessor() string {
	x.write("program", "\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00\x01\x00\x00\x00")
	return x.build("FROM base\nCOPY --chmod=755 program /\nRUN [\"/program\"]")
}

func (x *trouble) withoutUidmap() string {
	x.user.Prefix = append(slices.Clone(x.user.Prefix), "PATH=/nonexistent")
	return x.mica(&x.user, "images")
}

func (x *trouble) withoutRanges() string {
	m := rig.AsUser(x, "mica-no-ranges", false)
	importSmall(x.T, m)
	return x.mica(m, "run", "base", "true")
}

// withoutNamespaces runs the user's mica in a user namespace in which no more of them may be made.
func (x *trouble) withoutNamespaces() string {
	inner := x.user.Command("run", "base", "true")
	cmd := exec.Command("sh", append([]string{"-c", `echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"`, "sh"}, inner.Args...)...)
	cmd.Env = inner.Env
	everyone := []syscall.SysProcIDMap{{Size: 1 << 16}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: everyone, GidMappings: everyone, GidMappingsEnableSetgroups: true}
	return x.run(cmd)
}

// plainRegistry pulls from a server without TLS at an address of the host that is not on loopback.
func (x *trouble) plainRegistry() string {
	conn, err := (&net.Dialer{}).DialContext(x.Context(), "udp", "192.0.2.1:9") // sends nothing
	if err != nil {
		x.Fatal(err)
	}
	host, _, _ := net.SplitHostPort(conn.LocalAddr().String())
	_ = conn.Close()
	l, err := (&net.ListenConfig{}).Listen(x.Context(), "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		x.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	_ = s.Listener.Close()
	s.Listener = l
	s.Start()
	defer s.Close()
	return x.mica(&x.root, "pull", l.Addr().String()+"/app")
}

// secureRegistry pulls from a registry that wants a password, with or without its authority among the trusted.
func (x *trouble) secureRegistry(trusted bool) string {
	r, err := rig.StartSecureRegistry(x.dir)
	if err != nil {
		x.Fatal(err)
	}
	defer func() { _ = r.Stop() }()
	if trusted {
		x.root.Env = append(x.root.Env, "MICA_CERTS_D="+r.CertsD)
	}
	return x.mica(&x.root, "pull", r.Addr+"/app")
}

// fullDisk has a store on a filesystem of 1 MiB.
func (x *trouble) fullDisk() string {
	archive := x.archive(4 << 20)
	small := rig.TempDir(x)
	rig.Must(x, "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small)
	defer rig.Must(x, "umount", small)
	return x.mica(&x.root, "--root", filepath.Join(small, "store"), "import", archive, "large")
}

func (x *trouble) large() string {
	return x.rootWith("MICA_MAX_UNPACKED_SIZE=1m", "import", x.archive(4<<20), "large")
}

// archive makes a tar of one file of so many bytes, none of which is 0.
func (x *trouble) archive(size int) string {
	var out strings.Builder
	w := tar.NewWriter(&out)
	if err := w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: int64(size)}); err != nil {
		x.Fatal(err)
	}
	if _, err := w.Write([]byte(strings.Repeat("x", size))); err != nil {
		x.Fatal(err)
	}
	if err := w.Close(); err != nil {
		x.Fatal(err)
	}
	return x.write("archive.tar", out.String())
}

func (x *trouble) otherStore() string {
	x.write("version", "another store 9\n")
	return x.mica(&x.root, "--root", x.dir, "images")
}
