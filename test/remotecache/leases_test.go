//go:build e2e

package remotecache

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/micabuild/mica/test/rig"
)

// slowCase has a step that lasts until a server answers.
const slowCase = `
-- Dockerfile --
FROM base
RUN --network=host wget -q -O /answer http://%s/
RUN cat /answer >/copy
`

// slowServer counts requests. It answers those after the first when it has them, and the first when the test says so.
func slowServer(t *testing.T) (address string, requests *atomic.Int32, first chan struct{}, answer func()) {
	t.Helper()
	requests, first = &atomic.Int32{}, make(chan struct{})
	wait := make(chan struct{})
	answer = sync.OnceFunc(func() { close(wait) })
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 1 {
			close(first)
			select {
			case <-wait:
			case <-r.Context().Done():
			}
		}
		_, _ = w.Write([]byte("answer"))
	}))
	t.Cleanup(func() {
		answer()
		s.Close()
	})
	return strings.TrimPrefix(s.URL, "http://"), requests, first, answer
}

// waitsForAnother is what a build shows while another build runs its step.
const waitsForAnother = "waiting for another build that runs this step"

// running is a build that has begun.
type running struct {
	cmd    *exec.Cmd
	waits  chan struct{} // closed when it waits for another build
	output chan rig.Output
}

// slowBuild begins a build in a store of its own.
func (c *dockerfile) slowBuild(t *testing.T, args ...string) *running {
	t.Helper()
	args = append([]string{"build", "--progress", "plain", "--allow", "network.host", "--build-context", "base=docker-image://" + peer.registry.Addr + "/base:latest"}, args...)
	b := &running{rig.NewMica(t).Command(append(args, c.dir)...), make(chan struct{}), make(chan rig.Output, 1)}
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	lines, err := b.cmd.StderrPipe()
	must(t, err)
	must(t, b.cmd.Start())
	t.Cleanup(func() { _ = syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL) })
	go func() {
		var out rig.Output
		waits := sync.OnceFunc(func() { close(b.waits) })
		for r := bufio.NewReader(lines); ; {
			line, err := r.ReadString('\n')
			out.Stderr += line
			if strings.Contains(line, waitsForAnother) {
				waits()
			}
			if err != nil {
				break
			}
		}
		_ = b.cmd.Wait()
		out.Code = b.cmd.ProcessState.ExitCode()
		b.output <- out
	}()
	return b
}

// TestLeases: of builds that need a step at the same time, each in a store of its own, one runs it.
func TestLeases(t *testing.T) {
	address, requests, first, answer := slowServer(t)
	c := unpack(t, txtar.Parse(fmt.Appendf(nil, slowCase, address)))
	builds := []*running{c.slowBuild(t, steps("leases")...)}
	<-first
	for range 4 {
		builds = append(builds, c.slowBuild(t, steps("leases")...))
	}
	for _, b := range builds[1:] {
		<-b.waits
	}
	answer()
	ran := map[string]int{}
	for _, b := range builds {
		for _, step := range ranOf(t, <-b.output, 2) {
			ran[step]++
		}
	}
	if len(ran) != 2 || requests.Load() != 1 {
		t.Errorf("the builds ran %v, with %d requests", ran, requests.Load())
	}
	for step, n := range ran {
		if n > 1 {
			t.Errorf("%d ran %s", n, step)
		}
	}
}

// TestLeaseOfKilledBuild: another build runs the step of one that was killed.
func TestLeaseOfKilledBuild(t *testing.T) {
	address, requests, first, _ := slowServer(t)
	c := unpack(t, txtar.Parse(fmt.Appendf(nil, slowCase, address)))
	dies := c.slowBuild(t, steps("killed")...)
	<-first
	waits := c.slowBuild(t, steps("killed")...)
	<-waits.waits
	must(t, dies.cmd.Process.Kill())
	if list := ranOf(t, <-waits.output, 2); len(list) != 2 || requests.Load() != 2 {
		t.Errorf("the build ran %q, with %d requests", list, requests.Load())
	}
}

// TestNoLeases: with lease=false builds do not wait for each other.
func TestNoLeases(t *testing.T) {
	address, requests, first, answer := slowServer(t)
	c := unpack(t, txtar.Parse(fmt.Appendf(nil, slowCase, address)))
	at := steps("unleased")
	at[3] += ",lease=false"
	one := c.slowBuild(t, at...)
	<-first
	if list := ranOf(t, <-c.slowBuild(t, at...).output, 2); len(list) != 2 || requests.Load() != 2 {
		t.Errorf("the build ran %q, with %d requests", list, requests.Load())
	}
	answer()
	if out := <-one.output; out.Code != 0 {
		t.Error(out.Stderr)
	}
}
