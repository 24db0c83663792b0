package serve_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/serve"
)

// activatedVariable makes the test binary take the sockets of systemd, and print what it has got.
const activatedVariable = "MICA_TEST_ACTIVATED"

func TestMain(m *testing.M) {
	if os.Getenv(activatedVariable) == "" {
		os.Exit(m.Run())
	}
	list, err := serve.Activated(serve.Access{})
	for _, l := range list {
		fmt.Print(l.Addr(), " ")
		_ = l.Close()
	}
	fmt.Print(err)
}

func TestActivated(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	unixFile := func() *os.File {
		l, err := net.Listen("unix", filepath.Join(dir, "s"))
		if err != nil {
			t.Fatal(err)
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		t.Cleanup(func() { _ = l.Close() })
		f, err := l.(*net.UnixListener).File()
		if err != nil {
			t.Fatal(err)
		}
		return f
	}()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tcp.Close() }()
	tcpFile, err := tcp.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	pipe, _, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		files []*os.File
		want  string
	}{
		"none":               {nil, "<nil>"},
		"unix":               {[]*os.File{unixFile}, filepath.Join(dir, "s") + " <nil>"},
		"tcp without TLS":    {[]*os.File{unixFile, tcpFile}, "listen on tcp://" + tcp.Addr().String() + " for systemd: other users and hosts may reach it: give --tlscacert, --tlscert and --tlskey"},
		"not a socket":       {[]*os.File{pipe}, "take the sockets of systemd: one is neither a unix nor a tcp socket that accepts connections"},
		"of another process": {[]*os.File{nil}, "<nil>"},
	} {
		t.Run(name, func(t *testing.T) {
			// A shell knows its process ID before it becomes the test binary.
			script := fmt.Sprintf(`[ "$2" = other ] || export LISTEN_PID=$$; export LISTEN_FDS=%d; exec "$1"`, len(test.files))
			cmd := exec.Command("/bin/sh", "-c", script, "sh", "/proc/self/exe")
			cmd.Args[4] = os.Args[0]
			if test.files != nil && test.files[0] == nil {
				cmd.Args = append(cmd.Args, "other")
			} else {
				cmd.ExtraFiles = test.files
			}
			cmd.Env = append(os.Environ(), activatedVariable+"=1")
			out, err := cmd.CombinedOutput()
			if err != nil || strings.TrimSpace(string(out)) != test.want {
				t.Errorf("%q, %v, want %q", out, err, test.want)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(dir, "s")); err != nil {
		t.Errorf("the file of systemd's socket: %v", err)
	}
}
