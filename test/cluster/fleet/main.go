//go:build e2e

// Command fleet measures many builds at once on Kubernetes: real clients, a real API server, controllers, scheduler and registry, and nodes that are
// simulated. It needs root. What it says about requests holds anywhere; times are those of one machine that does all of it.
//
// The kubelets of the nodes start no containers: they report the states that kubelets report, and connect the exec of a pod to mica serve on this
// host, one for each pod, or one for all with -share, which pulls each layer once for all pods.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/micabuild/mica/test/cluster/plane"
	"github.com/micabuild/mica/test/rig"
)

const architecture = runtime.GOARCH

// options are those of the command.
type options struct {
	share    bool
	start    time.Duration
	sleep    int
	connect  bool
	fastJobs bool
}

func main() {
	var o options
	sizes := flag.String("builds", "10,100", "numbers of builds at once")
	flag.BoolVar(&o.share, "share", false, "one mica serve for all pods")
	flag.DurationVar(&o.start, "start", time.Second, "time that the start of a container takes")
	flag.IntVar(&o.sleep, "sleep", 5, "seconds that a RUN takes")
	flag.BoolVar(&o.connect, "connect", false, "clients are goroutines that create a Job, connect, wait for all others and delete it, without a build")
	flag.BoolVar(&o.fastJobs, "fast-controllers", false, "the controllers may send 500 requests a second, not 20")
	flag.Parse()
	if err := measureAll(&o, *sizes); err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
}

func measureAll(o *options, sizes string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	for _, size := range strings.Split(sizes, ",") {
		n, err := strconv.Atoi(size)
		if err == nil {
			err = measure(ctx, o, n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// warn reports an error of the simulation, unless it has ended.
func warn(ctx context.Context, err error) {
	if ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
	}
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// ticks gives a time every now and then until the context ends.
func ticks(ctx context.Context, every time.Duration) <-chan time.Time {
	c := make(chan time.Time)
	go func() {
		defer close(c)
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case now := <-t.C:
				c <- now
			case <-ctx.Done():
				return
			}
		}
	}()
	return c
}

// listen serves on loopback until the command ends.
func listen(h http.Handler) (address string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() { _ = http.Serve(l, h) }()
	return l.Addr().String(), nil
}

// simulation is a cluster and its clients.
type simulation struct {
	*options
	dir      string
	plane    *plane.Plane
	kubelets *kubelets
	registry *countedRegistry
	clients  atomic.Int64 // the greatest memory of one
}

// runner is the service account of the clients, as those of CI in pods have.
const runner = "system:serviceaccount:builds:runner"

// rights are those of docs/cluster.md.
const rights = `KUBECTL create namespace builds && KUBECTL label namespace builds pod-security.kubernetes.io/enforce=restricted &&
KUBECTL create serviceaccount runner -n builds && cat <<'END' | KUBECTL create -f -
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: mica, namespace: builds}
rules:
- {apiGroups: [batch], resources: [jobs], verbs: [create, delete]}
- {apiGroups: [""], resources: [pods], verbs: [create, list, watch]}
- {apiGroups: [""], resources: [pods/exec], verbs: [create, get]}
- {apiGroups: [""], resources: [events], verbs: [list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: mica, namespace: builds}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: mica}
subjects: [{kind: ServiceAccount, name: runner, namespace: builds}]
END`

// measure simulates a number of builds at once.
func measure(ctx context.Context, o *options, builds int) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &simulation{options: o}
	if s.dir, err = os.MkdirTemp("", "mica-fleet-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	if err := s.startPlane(); err != nil {
		return err
	}
	defer s.plane.Stop()
	defer cancel() // what uses it ends before
	if err := os.Setenv("KUBECONFIG", s.plane.At("runner.kubeconfig")); err != nil {
		return err
	}
	if s.registry, err = startRegistry(s.dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.registry.stop()) }()
	stop, err := s.startKubelets(ctx, builds)
	if err != nil {
		return err
	}
	defer stop()
	if err := s.pushBase(ctx); err != nil {
		return err
	}
	return s.run(ctx, builds)
}

func (s *simulation) startPlane() (err error) {
	dir := filepath.Join(s.dir, "plane")
	policy := filepath.Join(s.dir, "policy.yaml")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(policy, []byte(auditPolicy), 0o600)); err != nil {
		return err
	}
	o := plane.Options{
		Dir:       dir,
		Users:     []plane.User{{Name: "runner", Account: runner, Group: "system:serviceaccounts"}},
		APIServer: []string{"--audit-policy-file=" + policy, "--audit-log-path=" + s.audit(), "--audit-log-maxsize=10000"},
	}
	if s.fastJobs {
		o.Controllers = []string{"--kube-api-qps=500", "--kube-api-burst=1000", "--concurrent-job-syncs=20"}
	}
	if s.plane, err = plane.Start(o); err != nil {
		return err
	}
	kubectl := plane.Program("kubectl") + " --kubeconfig " + s.plane.Kubeconfig
	out, err := exec.Command("sh", "-c", strings.ReplaceAll(rights, "KUBECTL", kubectl)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return s.plane.Wait("the service account of the pods", func() bool {
		return s.plane.Kubectl("get", "serviceaccount", "default", "-n", "builds").Run() == nil
	})
}

func (s *simulation) audit() string { return filepath.Join(s.dir, "audit.log") }

// startKubelets starts nodes.
func (s *simulation) startKubelets(ctx context.Context, builds int) (stop func(), err error) {
	a, err := newAPI(s.plane.Kubeconfig)
	if err != nil {
		return nil, err
	}
	s.kubelets = &kubelets{start: s.start, serve: func(ctx context.Context, pod string) (string, func(), error) {
		return serveMica(ctx, filepath.Join(s.dir, "pods", pod))
	}}
	stop = func() {}
	if s.share {
		socket, end, err := serveMica(ctx, filepath.Join(s.dir, "shared"))
		if err != nil {
			return nil, err
		}
		stop = end
		s.kubelets.serve = func(context.Context, string) (string, func(), error) { return socket, func() {}, nil }
	}
	return stop, newKubelets(ctx, a, builds, s.kubelets)
}

// pushBase puts the base image into the registry.
func (s *simulation) pushBase(ctx context.Context) error {
	tar, err := rig.BusyboxTar(s.dir)
	if err != nil {
		return err
	}
	base := s.registry.address + "/base:1"
	for _, args := range [][]string{{"import", "-c", "ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin", tar, base}, {"push", "-q", base}} {
		if out, err := mica(ctx, filepath.Join(s.dir, "images"), args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
	}
	return nil
}
