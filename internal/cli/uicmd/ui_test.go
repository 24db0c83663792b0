package uicmd

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/micabuild/mica/internal/cli/command/commandtest"
)

// TestAddresses: an address that other hosts reach needs a flag, and a mistake is told in a line.
func TestAddresses(t *testing.T) {
	t.Parallel()
	m := commandtest.New(t)
	for listen, want := range map[string]string{
		"0.0.0.0:0":     "--listen 0.0.0.0:0: other hosts may reach this address",
		":8080":         "--listen :8080: other hosts may reach this address",
		"10.0.0.1:80":   "--listen 10.0.0.1:80: other hosts may reach this address",
		"127.0.0.1":     "--listen 127.0.0.1: it is not HOST:PORT",
		"127.0.0.1:x y": "listen on 127.0.0.1:x y: ",
		"":              "--listen : it is not HOST:PORT",
		"::1:80":        "--listen ::1:80: it is not HOST:PORT",
	} {
		got := m.Run(NewUICommand, "--listen", listen)
		if text := commandtest.Text(got.Err); !strings.HasPrefix(text, want) || got.Stdout != "" {
			t.Errorf("%q: %q, want %q", listen, text, want)
		}
	}
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	got := m.Run(NewUICommand, "--listen", taken.Addr().String())
	if text := commandtest.Text(got.Err); !strings.HasPrefix(text, "listen on "+taken.Addr().String()+": ") || !strings.Contains(text, "address already in use") {
		t.Errorf("%q", text)
	}
}

// TestServe: the command prints a URL alone on stdout, which answers until the command is interrupted; a warning goes to stderr.
func TestServe(t *testing.T) {
	t.Parallel()
	for _, remote := range []bool{false, true} {
		m := commandtest.New(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		app := *m.App
		var stdout, stderr func() string
		app.Stdout, stdout = commandtest.Output(t)
		app.Stderr, stderr = commandtest.Output(t)
		cmd := NewUICommand(&app)
		args := []string{"--listen", "127.0.0.1:0"}
		if remote {
			args = []string{"--listen", "0.0.0.0:0", "--allow-remote"}
		}
		cmd.SetArgs(args)
		done := make(chan error, 1)
		go func() { done <- cmd.ExecuteContext(ctx) }()
		url := waitLine(ctx, t, stdout)
		res, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != http.StatusOK || !strings.Contains(string(text), "mica") {
			t.Errorf("%s %s", res.Status, text)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got := strings.HasPrefix(stderr(), "WARNING: other hosts can reach this page"); got != remote {
			t.Errorf("remote %t: %q", remote, stderr())
		}
		if _, err := http.Get(url); err == nil { //nolint:bodyclose // there is nobody
			t.Error("the server is still there")
		}
	}
}

// TestOpen: the browser gets a file that leads to the URL. The token is on no command line, and the file goes with the command.
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv(openVariable, "")
	script := "#!/bin/sh\n[ $# = 1 ] && [ -z \"$_MICA_UI_OPEN\" ] && cp \"$1\" " + dir + "/part && echo \"$1\" >" + dir + "/name && mv " + dir + "/part " + dir + "/opened\n"
	if err := os.WriteFile(filepath.Join(dir, "xdg-open"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	m := commandtest.New(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	app := *m.App
	var stdout, stderr func() string
	app.Stdout, stdout = commandtest.Output(t)
	app.Stderr, stderr = commandtest.Output(t)
	cmd := NewUICommand(&app)
	cmd.SetArgs([]string{"--open"})
	done := make(chan error, 1)
	go func() { done <- cmd.ExecuteContext(ctx) }()
	url := waitLine(ctx, t, stdout)
	opened := ""
	for ctx.Err() == nil && opened == "" {
		data, err := os.ReadFile(filepath.Join(dir, "opened"))
		if opened = string(data); err != nil {
			time.Sleep(time.Millisecond)
		}
	}
	if !strings.Contains(opened, `content="0;url=`+url+`"`) {
		t.Errorf("opened %q (%s)", opened, stderr())
	}
	name, err := os.ReadFile(filepath.Join(dir, "name"))
	if err != nil || strings.Contains(string(name), "token") {
		t.Errorf("%s, %v", name, err)
	}
	if info, err := os.Stat(strings.TrimSpace(string(name))); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Dir(strings.TrimSpace(string(name)))); err == nil {
		t.Error("the file is still there")
	}
}

// waitLine waits until output is a line, and returns it.
func waitLine(ctx context.Context, t *testing.T, output func() string) string {
	t.Helper()
	for ctx.Err() == nil {
		if line, ok := strings.CutSuffix(output(), "\n"); ok {
			return line
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("nothing was printed")
	return ""
}
