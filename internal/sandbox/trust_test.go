package sandbox

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/micabuild/mica/internal/network"
)

const listName = "etc/ssl/certs/ca-certificates.crt"

// withList adds a layer with a list of authorities to the root filesystem of p.
func withList(t *testing.T, p *Process) {
	t.Helper()
	list := filepath.Join(t.TempDir(), listName)
	if err := os.MkdirAll(filepath.Dir(list), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(list, []byte("own\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(list, time.Unix(1, 2), time.Unix(1, 2)); err != nil {
		t.Fatal(err)
	}
	p.Root.Lowers = []string{strings.TrimSuffix(list, listName)}
	p.Authority = []byte("authority\n")
}

// TestRootProxyNetwork: a process reaches its proxy and nothing else, the proxy ends with it, and no layer has its authority.
func TestRootProxyNetwork(t *testing.T) {
	for _, runtime := range runtimes(t) {
		for _, readOnly := range []bool{false, true} {
			t.Run(fmt.Sprint(runtime, " read-only=", readOnly), func(t *testing.T) {
				h, p := realHost(t, runtime)
				withList(t, p)
				if p.ReadOnlyRoot = readOnly; readOnly {
					p.Root.Upper, p.Root.Work = "", ""
				}
				ended := false
				p.Network, p.Proxy = NetworkProxy, func(l net.Listener) {
					for {
						c, err := l.Accept()
						if err != nil {
							ended = true
							return
						}
						_, _ = io.WriteString(c, "proxy\n")
						_ = c.Close()
					}
				}
				host, port, _ := net.SplitHostPort(network.ProxyAddress)
				out := newBuffer()
				p.Args = []string{"/bin/bash", "-c", fmt.Sprintf("cat /%s; cat < /dev/tcp/%s/%s; ls /sys/class/net; ! cat < /dev/tcp/192.0.2.1/80", listName, host, port)}
				p.Env, p.Stdout, p.Stderr = []string{"PATH=/usr/bin:/bin"}, out, io.Discard
				if err := h.Run(t.Context(), p); err != nil {
					t.Fatal(err, out)
				}
				want := "own\n" + trustBegin + "authority\n" + trustEnd + "proxy\nlo\n"
				if out.String() != want {
					t.Errorf("the process prints %q, want %q", out, want)
				}
				if !ended {
					t.Error("the proxy serves after the process")
				}
				if readOnly {
					return
				}
				checkList(t, p, "own\n", time.Unix(1, 2))
			})
		}
	}
}

// checkList checks the list of authorities in the upper directory.
func checkList(t *testing.T, p *Process, want string, at time.Time) {
	t.Helper()
	list := filepath.Join(p.Root.Upper, listName)
	data, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	if string(data) != want {
		t.Errorf("the list is %q, want %q", data, want)
	}
	if info, err := os.Stat(list); err != nil || !at.IsZero() && !info.ModTime().Equal(at) {
		t.Errorf("the time of the list has changed: %v", err)
	}
}

// TestRootAuthorityIsRemoved: whatever a process makes of the list, the authority is not in it afterwards, and no file outside is changed.
func TestRootAuthorityIsRemoved(t *testing.T) {
	runtime := runtimes(t)[0]
	for name, c := range map[string]struct{ script, want string }{
		"appended": {"echo more >> LIST", "own\nmore\n"},
		"replaced": {"echo new > /n; mv /n LIST", "new\n"},
		"edited":   {"cp LIST /n; sed -i s/own/other/ LIST", "other\n"},
	} {
		t.Run(name, func(t *testing.T) {
			h, p := realHost(t, runtime)
			withList(t, p)
			p.Args = []string{"/bin/sh", "-c", strings.ReplaceAll(c.script, "LIST", "/"+listName)}
			p.Env, p.Stdout, p.Stderr = []string{"PATH=/usr/bin:/bin"}, io.Discard, io.Discard
			if err := h.Run(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			checkList(t, p, c.want, time.Time{})
		})
	}
	for _, script := range []string{"rm LIST", "rm LIST; mkfifo LIST", "ln -sf /dev/null LIST", "rm -r /etc/ssl; ln -s / /etc/ssl"} {
		h, p := realHost(t, runtime)
		withList(t, p)
		p.Args = []string{"/bin/sh", "-c", strings.ReplaceAll(script, "LIST", "/"+listName)}
		p.Env, p.Stdout, p.Stderr = []string{"PATH=/usr/bin:/bin"}, io.Discard, io.Discard
		if err := h.Run(t.Context(), p); err != nil {
			t.Errorf("%s: %v", script, err)
		}
	}
}
