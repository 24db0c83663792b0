package containers

import (
	"cmp"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/cli/opts"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	apinetwork "github.com/moby/moby/api/types/network"
	"github.com/moby/sys/signal"

	"github.com/micabuild/mica/internal/runtimespec"
)

// check refuses settings before anything is made: those that are invalid, in the words of Docker's daemon, and those that mica does not have. A
// setting that would be ignored is refused, too. The grammar of docker run (package container) checks the others.
func (c *Container) check() error {
	for _, check := range []func() error{
		func() error { return checkConfig(c.config) },
		func() error { return checkModes(c.config, c.host) },
		func() error { return checkHost(c.host) },
		func() error { return checkPorts(c.host.PortBindings) },
		func() error { return checkResources(&c.host.Resources) },
		func() error { return checkMounts(c.host) },
		func() error { return checkUnsupported(c.host) },
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// maxHostname is the limit of the kernel (sethostname(2)).
const maxHostname = 64

func checkConfig(c *container.Config) error {
	if c.Image == "" {
		return fail(Invalid, "config cannot be empty in order to create a container")
	}
	if c.WorkingDir != "" && !filepath.IsAbs(c.WorkingDir) {
		return fail(Invalid, "the working directory '%s' is invalid, it needs to be an absolute path", c.WorkingDir)
	}
	if c.StopSignal != "" {
		if _, err := signal.ParseSignal(c.StopSignal); err != nil {
			return invalid(err)
		}
	}
	if len(c.Hostname) > maxHostname {
		return fail(Invalid, "hostname %q is too long (maximum %d bytes)", c.Hostname, maxHostname)
	}
	if err := checkEnv(c.Env); err != nil {
		return err
	}
	for _, arg := range slices.Concat(c.Entrypoint, c.Cmd) {
		if strings.ContainsRune(arg, 0) {
			return fail(Invalid, "invalid argument %q: it has a NUL byte", arg)
		}
	}
	return checkHealth(c.Healthcheck)
}

// checkEnv refuses variables that a process cannot have. What a name alone means is the process's own matter.
func checkEnv(env []string) error {
	for _, kv := range env {
		if name, _, _ := strings.Cut(kv, "="); name == "" {
			return fail(Invalid, "invalid environment variable: %s", kv)
		}
		if strings.ContainsRune(kv, 0) {
			return fail(Invalid, "invalid environment variable: %q has a NUL byte", kv)
		}
	}
	return nil
}

func checkHealth(h *container.HealthConfig) error {
	if h == nil {
		return nil
	}
	if h.Retries < 0 {
		return fail(Invalid, "Retries in Healthcheck cannot be negative")
	}
	for _, d := range []struct {
		name  string
		short bool
	}{
		{"Interval", h.Interval != 0 && h.Interval < container.MinimumDuration}, {"Timeout", h.Timeout != 0 && h.Timeout < container.MinimumDuration},
		{"StartPeriod", h.StartPeriod != 0 && h.StartPeriod < container.MinimumDuration},
		{"StartInterval", h.StartInterval != 0 && h.StartInterval < container.MinimumDuration},
	} {
		if d.short {
			return fail(Invalid, "%s in Healthcheck cannot be less than %s", d.name, container.MinimumDuration)
		}
	}
	return nil
}

// checkModes refuses modes of namespaces that Docker does not know, and those of other containers.
func checkModes(c *container.Config, h *container.HostConfig) error {
	switch {
	case !h.IpcMode.Valid():
		return fail(Invalid, "invalid IPC mode: %v", h.IpcMode)
	case !h.PidMode.Valid():
		return fail(Invalid, "invalid PID mode: %v", h.PidMode)
	case !h.UTSMode.Valid():
		return fail(Invalid, "invalid UTS mode: %v", h.UTSMode)
	case !h.CgroupnsMode.Valid():
		return fail(Invalid, "invalid cgroup namespace mode: %v", h.CgroupnsMode)
	case !h.UsernsMode.Valid():
		return fail(Invalid, "invalid USER mode: %v", h.UsernsMode)
	case !h.Isolation.IsValid():
		return fail(Invalid, "invalid isolation (%s): linux only supports 'default'", h.Isolation)
	case h.UTSMode.IsHost() && c.Hostname != "":
		return fail(Invalid, "conflicting options: hostname and the UTS mode")
	case h.NetworkMode.IsContainer() && h.NetworkMode.ConnectedContainer() == "":
		return fail(Invalid, "invalid network mode: invalid container format container:<name|id>")
	case h.IpcMode.IsContainer() || h.PidMode.IsContainer():
		return fail(Unsupported, "the namespaces of another container are not supported")
	}
	return nil
}

// runtimes are the names of the runtime that containers have: Docker's, and those of the programs. Which one runs is set where the server is
// started.
var runtimes = []string{"", "runc", "crun", "io.containerd.runc.v2"}

// maxUmask has the bits that umask(2) uses.
const maxUmask = 0o777

func checkHost(h *container.HostConfig) error {
	if h.AutoRemove && !h.RestartPolicy.IsNone() {
		return fail(Invalid, "can't create 'AutoRemove' container with restart policy")
	}
	if err := container.ValidateRestartPolicy(h.RestartPolicy); err != nil {
		return invalid(err)
	}
	for _, extra := range h.ExtraHosts {
		if _, err := opts.ValidateExtraHost(extra); err != nil {
			return invalid(err)
		}
	}
	if err := runtimespec.CheckCapabilities(h.CapAdd); err != nil {
		return fail(Invalid, "invalid CapAdd: %w", err)
	}
	if err := runtimespec.CheckCapabilities(h.CapDrop); err != nil {
		return fail(Invalid, "invalid CapDrop: %w", err)
	}
	if _, ok := h.Annotations[""]; ok {
		return fail(Invalid, "invalid Annotations: the empty string is not permitted as an annotation key")
	}
	if !slices.Contains(runtimes, h.Runtime) {
		return fail(Invalid, "unknown or invalid runtime name: %s", h.Runtime)
	}
	if h.Umask != nil && *h.Umask > maxUmask {
		return fail(Invalid, "invalid umask: %#o: it must be at most %#o", *h.Umask, maxUmask)
	}
	if h.ShmSize < 0 {
		return fail(Invalid, "SHM size can not be less than 0")
	}
	return nil
}

// checkPorts refuses ports of the host that no listener can have.
func checkPorts(ports apinetwork.PortMap) error {
	for port, list := range ports {
		if !port.IsValid() || port.Num() == 0 {
			return fail(Invalid, "invalid port specification: %q", port.String())
		}
		if len(list) > 0 && port.Proto() == apinetwork.SCTP {
			return fail(Unsupported, "publish %s: the protocol sctp is not supported: use tcp or udp", port)
		}
		for _, b := range list {
			if b.HostPort == "" {
				continue
			}
			if _, err := apinetwork.ParsePortRange(b.HostPort); err != nil {
				return fail(Invalid, "invalid port specification: %q", b.HostPort)
			}
		}
	}
	return nil
}

// checkResources refuses limits that would be ignored, and those that Docker names in other words than docker run.
func checkResources(r *container.Resources) error {
	throttled := len(r.BlkioWeightDevice) + len(r.BlkioDeviceReadBps) + len(r.BlkioDeviceWriteBps) + len(r.BlkioDeviceReadIOps) + len(r.BlkioDeviceWriteIOps)
	switch {
	case r.IOMaximumBandwidth != 0:
		return fail(Invalid, "invalid option: QoS maximum bandwidth configuration is not supported on linux")
	case r.IOMaximumIOps != 0:
		return fail(Invalid, "invalid option: QoS maximum IOPs configuration is not supported on linux")
	case r.CPURealtimePeriod != 0 || r.CPURealtimeRuntime != 0:
		return fail(Unsupported, "limits of the real-time scheduler are not supported")
	case throttled > 0:
		return fail(Unsupported, "limits of single block devices are not supported")
	case r.CPUShares < 0:
		return fail(Invalid, "invalid CPU shares (%d): value must be a positive integer", r.CPUShares)
	case r.MemorySwappiness != nil && (*r.MemorySwappiness < -1 || *r.MemorySwappiness > 100):
		return fail(Invalid, "Invalid value: %d, valid memory swappiness range is 0-100", *r.MemorySwappiness)
	case slices.Contains(r.Ulimits, nil):
		return fail(Invalid, "invalid Ulimits: null is not a limit")
	}
	return nil
}

// checkMounts refuses options of another type of mount, and a tmpfs in the place of the root filesystem.
func checkMounts(h *container.HostConfig) error {
	for target := range h.Tmpfs {
		switch {
		case path.Clean(target) == "/":
			return fail(Invalid, "invalid specification: destination can't be '/'")
		case !path.IsAbs(target):
			return fail(Invalid, "invalid mount path: '%s' mount path must be absolute", target)
		}
	}
	for _, m := range h.Mounts {
		switch {
		case m.VolumeOptions != nil && m.Type != mount.TypeVolume:
			return fail(Invalid, "VolumeOptions must not be specified on mount type %q", m.Type)
		case m.BindOptions != nil && m.Type != mount.TypeBind:
			return fail(Invalid, "BindOptions must not be specified on mount type %q", m.Type)
		case m.TmpfsOptions != nil && m.Type != mount.TypeTmpfs:
			return fail(Invalid, "TmpfsOptions must not be specified on mount type %q", m.Type)
		}
	}
	return nil
}

// checkUnsupported refuses what mica does not have.
func checkUnsupported(h *container.HostConfig) error {
	switch {
	case !h.RestartPolicy.IsNone():
		return fail(Unsupported, "restart policies are not supported: containers live as long as the server")
	case len(h.Links) > 0:
		return fail(Unsupported, "links are not supported: containers share one network")
	case len(h.VolumesFrom) > 0:
		return fail(Unsupported, "volumes of other containers are not supported: name a volume")
	case h.VolumeDriver != "" && h.VolumeDriver != "local":
		return fail(Unsupported, "volume drivers are not supported: %s", h.VolumeDriver)
	case len(h.StorageOpt) > 0:
		return fail(Unsupported, "storage options are not supported: use a quota of the store's filesystem")
	}
	return checkLog(h.LogConfig)
}

// logOptions are those of Docker's drivers json-file and local. They change nothing: the log of a container is bounded.
var logOptions = []string{"max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag", "mode", "max-buffer-size"}

func checkLog(l container.LogConfig) error {
	if l.Type != "" && l.Type != "json-file" && l.Type != "local" {
		return fail(Unsupported, "the log driver %s is not supported: use json-file", l.Type)
	}
	for name := range l.Config {
		if !slices.Contains(logOptions, name) {
			return fail(Invalid, "unknown log opt '%s' for %s log driver", name, cmp.Or(l.Type, "json-file"))
		}
	}
	return nil
}
