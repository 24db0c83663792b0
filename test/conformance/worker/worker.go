// Package worker makes mica a worker of BuildKit's integration suites: each test gets a server of its own, with an empty store.
package worker

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/buildkit/cmd/buildkitd/config"
	"github.com/moby/buildkit/util/testutil/integration"
	"github.com/moby/buildkit/util/testutil/workers"
)

// unsupported are the features that mica does not have: the suites skip their tests.
var unsupported = []string{
	workers.FeatureCacheBackendAzblob,
	workers.FeatureCacheBackendS3, // its test needs the programs minio and mc; test/remotecache has another service
	workers.FeatureCDI,
	workers.FeatureCNINetwork,
}

// Register adds mica, the program at $MICA_CONFORMANCE_BINARY, to the workers of a suite.
func Register() {
	integration.Register(worker{})
}

type worker struct{}

func (worker) Name() string        { return "mica" }
func (worker) Rootless() bool      { return false }
func (worker) NetNSDetached() bool { return false }
func (worker) Close() error        { return nil }

// New starts a server. What buildkitd's configuration of the test has for mica becomes flags and a registries.conf.
func (worker) New(_ context.Context, cfg *integration.BackendConfig) (integration.Backend, func() error, error) {
	binary := os.Getenv("MICA_CONFORMANCE_BINARY")
	if err := integration.LookupBinary(binary); err != nil {
		return nil, nil, err
	}
	// Not t.TempDir: paths of sockets are short.
	dir, err := os.MkdirTemp("", "mica")
	if err != nil {
		return nil, nil, err
	}
	closers := &integration.MultiCloser{}
	closers.Append(func() error { return os.RemoveAll(dir) })
	fail := func(err error) (integration.Backend, func() error, error) {
		return nil, nil, fmt.Errorf("start mica: %w: %s", err, integration.FormatLogs(cfg.Logs)+fmt.Sprint(closers.F()()))
	}
	daemon, err := daemonConfig(cfg, closers)
	if err != nil {
		return fail(err)
	}
	registries := filepath.Join(dir, "registries.conf")
	if err := os.WriteFile(registries, []byte(registriesConf(daemon)), 0o600); err != nil {
		return fail(err)
	}

	address := "unix://" + filepath.Join(dir, "mica.sock")
	args := []string{"--root", filepath.Join(dir, "store"), "serve", "--addr", address}
	if len(daemon.Entitlements) > 0 {
		args = append(args, "--allow-insecure-entitlement", strings.Join(daemon.Entitlements, ","))
	}
	if daemon.ProvenanceEnvDir != "" {
		args = append(args, "--provenance-env-dir", daemon.ProvenanceEnvDir)
	}
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "CONTAINERS_REGISTRIES_CONF="+registries)
	stop, err := integration.StartCmd(cmd, cfg.Logs)
	if err != nil {
		return fail(err)
	}
	closers.Append(stop)
	if err := integration.WaitSocket(address, 15*time.Second, cmd); err != nil {
		return fail(err)
	}
	return backend{address: address}, closers.F(), nil
}

// daemonConfig is what buildkitd would read.
func daemonConfig(cfg *integration.BackendConfig, closers *integration.MultiCloser) (*config.Config, error) {
	path, release, err := integration.WriteConfig(cfg.DaemonConfig)
	if err != nil {
		return nil, err
	}
	closers.Append(func() error { return os.RemoveAll(filepath.Dir(path)) })
	if release != nil {
		closers.Append(release)
	}
	daemon, err := config.LoadFile(path)
	return &daemon, err
}

// registriesConf has the mirrors and plain registries of a configuration of buildkitd.
func registriesConf(daemon *config.Config) string {
	var out strings.Builder
	for host, registry := range daemon.Registries {
		fmt.Fprintf(&out, "[[registry]]\nprefix = %q\nlocation = %q\n", host, host)
		if registry.PlainHTTP != nil && *registry.PlainHTTP || registry.Insecure != nil && *registry.Insecure {
			out.WriteString("insecure = true\n")
		}
		for _, mirror := range registry.Mirrors {
			fmt.Fprintf(&out, "[[registry.mirror]]\nlocation = %q\n", mirror)
		}
	}
	return out.String()
}

// A backend is a running server.
type backend struct{ address string }

func (b backend) Address() string         { return b.address }
func (backend) DockerAddress() string     { return "" }
func (backend) ContainerdAddress() string { return "" }
func (backend) DebugAddress() string      { return "" }
func (backend) Rootless() bool            { return false }
func (backend) NetNSDetached() bool       { return false }
func (backend) Snapshotter() string       { return "" }
func (backend) ExtraEnv() []string        { return nil }

func (backend) Supports(feature string) bool { return !slices.Contains(unsupported, feature) }
