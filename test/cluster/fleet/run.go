//go:build e2e

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	bkclient "github.com/moby/buildkit/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/kubejob"
)

// run runs the builds and prints what they have cost.
func (s *simulation) run(ctx context.Context, builds int) error {
	s.registry.forget()
	begun := time.Now()
	watching, stopped := context.WithCancel(ctx)
	defer stopped()
	most := s.watch(watching)
	failed := s.all(ctx, builds)
	took := time.Since(begun)
	stopped()
	if err := s.plane.Wait("the end of the pods", func() bool { _, running := s.kubelets.counts(); return running == 0 }); err != nil {
		failed = append(failed, err)
	}
	l, err := readLoad(s.audit(), begun)
	if err != nil {
		return err
	}
	s.print(builds, took, <-most, l, failed)
	if len(failed) > 0 {
		return fmt.Errorf("%d of %d builds have failed", len(failed), builds)
	}
	return nil
}

// all runs all clients at once and returns their errors.
func (s *simulation) all(ctx context.Context, builds int) (failed []error) {
	errs := make([]error, builds)
	var all, connected sync.WaitGroup
	connected.Add(builds)
	for i := range builds {
		all.Go(func() {
			if s.connect {
				errs[i] = s.connectOnly(ctx, &connected)
			} else {
				errs[i] = s.build(ctx, i)
			}
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			failed = append(failed, err)
		}
	}
	return failed
}

const dockerfile = `FROM REGISTRY/base:1
ARG N
COPY Dockerfile /src/
RUN echo $N >/n && sleep SLEEP
`

// build is one client: a process with an empty store, which builds an image that no other builds, and pushes it.
func (s *simulation) build(ctx context.Context, i int) error {
	dir := filepath.Join(s.dir, "clients", fmt.Sprint(i))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	text := strings.NewReplacer("REGISTRY", s.registry.address, "SLEEP", fmt.Sprint(s.sleep)).Replace(dockerfile)
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o600); err != nil {
		return err
	}
	cmd := mica(ctx, filepath.Join(dir, "store"), "build", "--progress", "plain", "--on", "kubernetes,image=mica,namespace=builds,repo="+s.registry.address+"/layers",
		"--build-arg", fmt.Sprintf("N=%d", i), "-t", fmt.Sprintf("%s/app:%d", s.registry.address, i), "--push", dir)
	out, err := cmd.CombinedOutput()
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		for old := s.clients.Load(); u.Maxrss<<10 > old && !s.clients.CompareAndSwap(old, u.Maxrss<<10); old = s.clients.Load() {
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %s", err, out[max(0, len(out)-300):])
	}
	return nil
}

// connectOnly is a client without a build. The connections of all are open at the same time.
func (s *simulation) connectOnly(ctx context.Context, connected *sync.WaitGroup) (err error) {
	arrived := sync.OnceFunc(connected.Done)
	defer arrived()
	p := ocispec.Platform{OS: "linux", Architecture: architecture}
	job, err := kubejob.Start(ctx, kubejob.Options{Namespace: "builds", Image: "mica", Timeout: time.Hour}, p)
	if err != nil {
		return err
	}
	defer func() {
		if e := job.Close(ctx); err == nil {
			err = e
		}
	}()
	c, err := bkclient.New(ctx, "", bkclient.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return job.Dial(ctx) }))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Info(ctx); err != nil {
		return err
	}
	arrived()
	connected.Wait()
	_, err = c.Info(ctx) // each connection still works
	return err
}
