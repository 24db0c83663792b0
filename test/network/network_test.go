//go:build e2e

// Package network tests what processes reach, and what reaches them.
package network

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// as runs a test as root and as an ordinary user, with each runtime.
func as(t *testing.T, test func(t *testing.T, m *rig.Mica)) {
	t.Helper()
	for _, runtime := range []string{"crun", "runc"} {
		for _, who := range []string{"root", "user"} {
			t.Run(who+" "+runtime, func(t *testing.T) {
				m := rig.NewMica(t)
				if who == "user" {
					m = rig.AsUser(t, "mica-network", true)
				}
				set(m, "MICA_RUNTIME", runtime)
				importBase(t, m)
				test(t, m)
			})
		}
	}
}

// set gives mica a variable; what setpriv(1) resets, env(1) after it sets.
func set(m *rig.Mica, name, value string) {
	m.Env = append(m.Env, name+"="+value)
	if len(m.Prefix) > 0 {
		m.Prefix = append(m.Prefix, name+"="+value)
	}
}

func importBase(t *testing.T, m *rig.Mica) {
	t.Helper()
	dir := rig.TempDir(t)
	tar, err := rig.BusyboxTar(dir)
	if err != nil {
		t.Fatal(err)
	}
	rig.Must(t, "chmod", "-R", "a+rX", dir)
	m.Run("import", "-c", "ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin", tar, "base")
}

// serve greets everybody at an address of the host, and returns its port.
func serve(t *testing.T, at string) int {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "the host\n")
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

// hostAddress is the host's own, not its loopback's.
func hostAddress(t *testing.T) string {
	t.Helper()
	c, err := net.Dial("udp", "192.0.2.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	return c.LocalAddr().(*net.UDPAddr).IP.String()
}

// build builds a Dockerfile on the base image.
func build(t *testing.T, m *rig.Mica, steps string, flags ...string) rig.Output {
	t.Helper()
	return m.Try(strings.NewReader("FROM base\n"+steps), append(append([]string{"build", "--no-cache", "--progress", "plain"}, flags...), "-")...)
}

// probe prints what a process reaches: the host by its address and by loopback's, its abstract sockets, its packets.
func probe(host string, port, loopback int, abstract string) string {
	return fmt.Sprintf(`echo "address: $(%s 2>/dev/null)"; echo "loopback: $(%s 2>/dev/null)"; `+
		`echo "sockets: $(grep -c %s /proc/net/unix)"; echo "raw: $((0x$(grep CapBnd /proc/self/status | cut -f 2) >> 13 & 1))"`,
		listen(host, port), listen("127.0.0.1", loopback), abstract)
}

// listen is a command that prints what is said at an address. Its own side of the connection stays open.
func listen(host string, port int) string {
	return fmt.Sprintf("{ [ -p /dev/shm/f ] || mkfifo /dev/shm/f; nc -w 3 %s %d 0<>/dev/shm/f; }", host, port)
}

// TestReach: a process reaches what the host's address has, not its loopback nor its abstract sockets; but for one that was
// granted the host's network, which may write no packets of its own there.
func TestReach(t *testing.T) {
	host, port, loopback := hostAddress(t), serve(t, "0.0.0.0:0"), serve(t, "127.0.0.1:0")
	abstract := fmt.Sprintf("mica-network-%d", os.Getpid())
	l, err := net.Listen("unix", "@"+abstract)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	command := probe(host, port, loopback, abstract)
	own := []string{"address: the host", "loopback: ", "sockets: 0", "raw: 1"}
	shared := []string{"address: the host", "loopback: the host", "sockets: 1", "raw: 0"}
	as(t, func(t *testing.T, m *rig.Mica) {
		for network, want := range map[string][]string{"default": own, "host": shared, "none": {"address: ", "loopback: ", "sockets: 0", "raw: 1"}} {
			said := m.Try(nil, "run", "--network", network, "base", "sh", "-c", command).Stdout
			if said != strings.Join(want, "\n")+"\n" {
				t.Errorf("run --network %s: %q, want %q", network, said, want)
			}
			log := build(t, m, "RUN "+command+"\n", "--network", network).Stderr
			for _, line := range want {
				if !hasLine(log, line) {
					t.Errorf("build --network %s: no %q in\n%s", network, line, log)
				}
			}
		}
	})
}

// hasLine finds a line of a step's output in a log: "#4 0.123 line".
func hasLine(log, line string) bool {
	for l := range strings.Lines(log) {
		if fields := strings.SplitN(strings.TrimSuffix(l, "\n"), " ", 3); len(fields) == 3 && strings.TrimSpace(fields[2]) == strings.TrimSpace(line) {
			return true
		}
	}
	return false
}

// TestEntitlement: a Dockerfile cannot take the host's network by itself.
func TestEntitlement(t *testing.T) {
	m := rig.NewMica(t)
	importBase(t, m)
	const step = "RUN --network=host true\n"
	if out := build(t, m, step); out.Code != 1 || !strings.Contains(out.Stderr, "network.host is not allowed") {
		t.Errorf("without --allow: %d, %s", out.Code, out.Stderr)
	}
	for _, flags := range [][]string{{"--allow", "network.host"}, {"--network", "host"}} {
		if out := build(t, m, step, flags...); out.Code != 0 {
			t.Errorf("%s: %s", flags, out.Stderr)
		}
	}
}

// TestFallback: without pasta a process has the host's network, without packets of its own, and mica says so.
func TestFallback(t *testing.T) {
	port := serve(t, "127.0.0.1:0")
	const reason = "pasta is not on PATH: install the package passt"
	as(t, func(t *testing.T, m *rig.Mica) {
		path := rig.TempDir(t)
		rig.Must(t, "chmod", "755", path)
		for _, name := range []string{"crun", "runc", "newuidmap", "newgidmap"} {
			full, err := exec.LookPath(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(full, filepath.Join(path, name)); err != nil {
				t.Fatal(err)
			}
		}
		set(m, "PATH", path)
		command := listen("127.0.0.1", port) + "; grep CapBnd /proc/self/status"
		out := build(t, m, "RUN "+command+"\nRUN true\n")
		if !hasLine(out.Stderr, "the host") || !hasLine(out.Stderr, "CapBnd:\t00000000a80405fb") ||
			strings.Count(out.Stderr, "WARNING: RUN uses the host's network: "+reason) != 1 {
			t.Errorf("build: %s", out.Stderr)
		}
		if out := m.Try(nil, "run", "base", "true"); out.Code != 0 || out.Stderr != "WARNING: the container uses the host's network: "+reason+"\n" {
			t.Errorf("run: %d, %q", out.Code, out.Stderr)
		}
		if out := m.Try(nil, "run", "-p", "80", "base", "true"); out.Code != 125 || !strings.Contains(out.Stderr, reason) {
			t.Errorf("run -p: %d, %q", out.Code, out.Stderr)
		}
		if got := m.Run("info", "-f", "{{.Network}}: {{.NetworkReason}}"); got != "host: "+reason+"\n" {
			t.Errorf("info: %q", got)
		}
	})
}

// TestPublish: a port of the host leads to the container's.
func TestPublish(t *testing.T) {
	as(t, func(t *testing.T, m *rig.Mica) {
		cmd := m.Command("run", "-p", "127.0.0.1::8080", "--stop-signal", "SIGKILL", "base", "httpd", "-f", "-p", "8080", "-h", "/usr/share/doc")
		at := publishedAt(t, cmd)
		var got string
		rig.Eventually(t, "the container answers", func() bool {
			answer, err := http.Get("http://" + at + "/README")
			if err != nil {
				return false
			}
			defer func() { _ = answer.Body.Close() }()
			data, _ := io.ReadAll(answer.Body)
			got = string(data)
			return true
		})
		if got != "a base\n" {
			t.Errorf("the container's answer is %q", got)
		}
		_, port, _ := net.SplitHostPort(at)
		out := m.Try(nil, "run", "-p", "127.0.0.1:"+port+":80", "base", "true")
		if out.Code != 125 || !strings.Contains(out.Stderr, "address already in use") {
			t.Errorf("a port that is taken: %d, %q", out.Code, out.Stderr)
		}
	})
}

// publishedAt starts a container and returns the address that mica chose.
func publishedAt(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	said, err := cmd.StderrPipe()
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
	line, err := bufio.NewReader(said).ReadString('\n')
	port, at, ok := strings.Cut(strings.TrimSpace(line), " -> ")
	if !ok || port != "8080/tcp" {
		t.Fatalf("mica says %q, %v", line, err)
	}
	return at
}

// TestKilled: nothing is left of a network when mica is killed.
func TestKilled(t *testing.T) {
	as(t, func(t *testing.T, m *rig.Mica) {
		cmd := m.Command("run", "-p", "127.0.0.1::8080", "base", "sleep", "1000")
		at := publishedAt(t, cmd)
		var pasta []string
		rig.Eventually(t, "pasta runs", func() bool {
			pasta = pastaBelow(t, cmd.Process.Pid)
			return len(pasta) == 1
		})
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		rig.Eventually(t, "pasta has ended", func() bool {
			_, err := os.Stat("/proc/" + pasta[0])
			return os.IsNotExist(err)
		})
		rig.Eventually(t, "nothing listens", func() bool {
			_, err := net.Dial("tcp", at)
			return err != nil
		})
	})
}

// pastaBelow are the processes of pasta whose ancestor a process is.
func pastaBelow(t *testing.T, ancestor int) []string {
	t.Helper()
	var found []string
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		comm, _ := os.ReadFile(dir + "/comm")
		if strings.HasPrefix(string(comm), "pas") && descends(dir, ancestor) {
			found = append(found, filepath.Base(dir))
		}
	}
	return found
}

func descends(dir string, ancestor int) bool {
	for range 100 {
		status, _ := os.ReadFile(dir + "/status")
		_, rest, ok := strings.Cut(string(status), "\nPPid:\t")
		parent, _, _ := strings.Cut(rest, "\n")
		if !ok || parent == "0" {
			return false
		}
		if parent == fmt.Sprint(ancestor) {
			return true
		}
		dir = "/proc/" + parent
	}
	return false
}

// TestResolver: a resolver on the host's loopback, as systemd's is, answers to containers too.
func TestResolver(t *testing.T) {
	const resolver = "127.0.0.153"
	c, err := net.ListenPacket("udp", resolver+":53")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	go resolve(c)
	conf := filepath.Join(rig.TempDir(t), "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver "+resolver+"\nsearch example.test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := rig.NewMica(t)
	importBase(t, m)
	m.Prefix = []string{"unshare", "--mount", "sh", "-c", "mount --bind " + conf + ` /etc/resolv.conf; exec "$@"`, "sh"}
	out := m.Try(nil, "run", "base", "sh", "-c", "grep -c 127.0.0.153 /etc/resolv.conf; grep search /etc/resolv.conf; nslookup -type=a name.test")
	if !strings.HasPrefix(out.Stdout, "0\nsearch example.test\n") || !strings.Contains(out.Stdout, "Address: 10.9.8.7\n") {
		t.Errorf("a name by the host's resolver: %q, %q", out.Stdout, out.Stderr)
	}
}

// resolve answers every question with 10.9.8.7.
func resolve(c net.PacketConn) {
	buf := make([]byte, 512)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		answer := append([]byte{}, buf[:n]...)
		answer[2], answer[3] = 0x84, 0 // an authoritative answer
		answer[7] = 1                  // of one record: the name of the question, A, IN, for 60 s
		_, _ = c.WriteTo(append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 9, 8, 7), from)
	}
}

// TestHostGateway: the name that stands for the host leads there.
func TestHostGateway(t *testing.T) {
	m := rig.NewMica(t)
	importBase(t, m)
	port := serve(t, "0.0.0.0:0")
	for _, network := range []string{"default", "host"} {
		out := build(t, m, "RUN "+listen("$(grep the.host /etc/hosts | cut -f 1)", port)+"\n", "--add-host", "the.host:host-gateway", "--network", network)
		if !hasLine(out.Stderr, "the host") {
			t.Errorf("build --network %s: %s", network, out.Stderr)
		}
	}
}
