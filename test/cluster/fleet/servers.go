//go:build e2e

package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/micabuild/mica/test/rig"
)

// mica is a command of mica with a store of its own.
func mica(ctx context.Context, store string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(rig.Top(), "bin", "mica"), append([]string{"--root", store}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	return cmd
}

// serveMica starts mica serve and returns its socket, and what ends it and removes its store.
func serveMica(ctx context.Context, dir string) (socket string, stop func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, err
	}
	socket = filepath.Join(dir, "s")
	cmd := mica(context.WithoutCancel(ctx), filepath.Join(dir, "store"), "serve", "--addr", "unix://"+socket, "--isolation", "chroot")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		stop()
		return "", nil, fmt.Errorf("mica serve: %w", err)
	}
	return socket, stop, nil
}

// countedRegistry is a registry behind a proxy that counts requests.
type countedRegistry struct {
	address string
	stop    func() error

	mu     sync.Mutex
	counts map[string]int // by method
}

func startRegistry(dir string) (*countedRegistry, error) {
	behind, err := rig.StartRegistry(dir)
	if err != nil {
		return nil, err
	}
	r := &countedRegistry{stop: behind.Stop, counts: map[string]int{}}
	proxy := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(&url.URL{Scheme: "http", Host: behind.Addr})
		p.Out.Host = p.In.Host // the registry's answers name it
	}}
	r.address, err = listen(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		r.counts[req.Method]++
		r.mu.Unlock()
		proxy.ServeHTTP(w, req)
	}))
	return r, err
}

// forget begins to count again.
func (r *countedRegistry) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.counts)
}
