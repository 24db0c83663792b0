//go:build guest

package guest

import (
	"archive/tar"
	"bytes"
	gocontext "context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// systemctl talks to the manager of a seat's services.
func (s seat) systemctl(t *testing.T, args ...string) string {
	t.Helper()
	if s.user == "root" {
		return rig.Must(t, "systemctl", args...)
	}
	return rig.Must(t, "su", append([]string{"-l", "-c", `exec systemctl --user "$@"`, s.user, "--", "su"}, args...)...)
}

// installUnits installs mica and its units as the archive of a release does, with a store for the test and an end soon after the last client.
func (s seat) installUnits(t *testing.T, m *rig.Mica) {
	t.Helper()
	manager := map[bool]string{true: "system", false: "user"}[s.user == "root"]
	rig.Must(t, "install", "-m", "755", filepath.Join(payload, "mica"), "/usr/local/bin/mica")
	for _, unit := range []string{"mica.socket", "mica.service"} {
		rig.Must(t, "install", "-D", "-m", "644", filepath.Join(payload, unit), filepath.Join("/usr/local/lib/systemd", manager, unit))
	}
	change := filepath.Join("/etc/systemd", manager, "mica.service.d", "test.conf")
	rig.Must(t, "mkdir", "-p", filepath.Dir(change))
	text := "[Service]\nEnvironment=MICA_ROOT=" + m.Root + " MICA_RUNTIME=" + s.runtime + "\nExecStart=\nExecStart=mica serve --idle-timeout 2s\n"
	if err := os.WriteFile(change, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	s.systemctl(t, "daemon-reload")
}

// systemd starts mica serve for root and for a user when a client connects, and mica ends when no client is there. The steps of its builds
// have limits.
func TestSystemd(t *testing.T) {
	rig.Must(t, "loginctl", "enable-linger", "tester") // the user's manager stays between commands
	for s, socket := range map[seat]string{
		{"root", "root", "crun"}:     "/run/mica/mica.sock",
		{"tester", "tester", "crun"}: "/run/user/1000/mica/mica.sock",
	} {
		t.Run(s.name, func(t *testing.T) {
			m := s.mica(t)
			s.installUnits(t, m)
			s.systemctl(t, "enable", "--now", "mica.socket")
			defer s.systemctl(t, "disable", "--now", "mica.socket", "mica.service")
			if got := rig.Must(t, "stat", "-c", "%a %U", socket); got != "600 "+s.user+"\n" {
				t.Errorf("the socket is %s", got)
			}
			inactive := func() bool {
				return strings.Contains(s.systemctl(t, "show", "-P", "ActiveState,Result", "mica.service"), "inactive")
			}
			if !inactive() {
				t.Error("the server runs before a client connects")
			}
			body := request(t, socket, "/build?q=1&nocache=1&memory=20971520&cpuquota=50000",
				archive(t, "FROM base\nRUN cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max >/limits\n"))
			id := strings.TrimSpace(between(body, `"stream":"`, `\n"`))
			if got := m.Try(nil, "run", "--rm", id, "cat", "/limits"); got.Stdout != "20971520\n50000 100000\n" {
				t.Errorf("the step had the limits %+v\n%s", got, body)
			}
			rig.Eventually(t, "the idle server ends", inactive)
			request(t, socket, "/build/prune", nil) // systemd starts it again
			rig.Eventually(t, "the idle server ends again", inactive)
			if got := s.systemctl(t, "show", "-P", "Result", "mica.service"); got != "success\n" {
				t.Errorf("the server ended with %s", got)
			}
		})
	}
}

// between is what a text has between two others.
func between(text, first, last string) string {
	_, text, _ = strings.Cut(text, first)
	text, _, _ = strings.Cut(text, last)
	return text
}

// archive is a context with a Dockerfile.
func archive(t *testing.T, dockerfile string) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "Dockerfile", Mode: 0o644, Size: int64(len(dockerfile))}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, dockerfile); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// request posts to a path of a socket, and returns the answer.
func request(t *testing.T, socket, path string, body io.Reader) string {
	t.Helper()
	tr := &http.Transport{DialContext: func(ctx gocontext.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Post("http://mica"+path, "application/x-tar", body)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
