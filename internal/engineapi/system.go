package engineapi

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	apiregistry "github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/ociruntime"
	"github.com/micabuild/mica/internal/userns"
	"github.com/micabuild/mica/internal/version"
)

// ping answers that the server is there, and what it speaks. Builder 2 is BuildKit.
func (s *Server) ping(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Builder-Version", s.builderVersion())
	h.Set("Swarm", string(swarm.LocalNodeStateInactive))
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if r.Method == http.MethodHead {
		h.Set("Content-Length", "0")
		return nil
	}
	_, _ = io.WriteString(w, "OK")
	return nil
}

// builderVersion is the builder that docker is to use: BuildKit, if it is served.
func (s *Server) builderVersion() string {
	if !s.o.BuildKit {
		return "1"
	}
	return "2"
}

func (s *Server) version(w http.ResponseWriter, _ *http.Request) error {
	v := system.VersionResponse{
		Platform: system.PlatformInfo{Name: "mica"}, Version: version.String(), APIVersion: MaxVersion, MinAPIVersion: MinVersion,
		Os: runtime.GOOS, Arch: runtime.GOARCH, GitCommit: version.Revision(), GoVersion: runtime.Version(), KernelVersion: kernel(),
	}
	v.Components = []system.ComponentVersion{{Name: "Engine", Version: v.Version, Details: map[string]string{
		"ApiVersion": v.APIVersion, "MinAPIVersion": v.MinAPIVersion, "GitCommit": v.GitCommit, "GoVersion": v.GoVersion,
		"Os": v.Os, "Arch": v.Arch, "KernelVersion": v.KernelVersion, "BuildTime": "", "Experimental": strconv.FormatBool(false),
	}}}
	return writeJSON(w, v)
}

func (s *Server) info(w http.ResponseWriter, r *http.Request) error {
	o, err := s.openStore(nil)
	if err != nil {
		return err
	}
	images, err := o.images.List(r.Context())
	if err != nil && images == nil {
		return err
	}
	i := system.Info{
		ID: o.store.Root(), Images: len(images), Driver: "overlay", DriverStatus: [][2]string{{"driver-type", "io.containerd.snapshotter.v1"}}, DockerRootDir: o.store.Root(),
		Plugins:     system.PluginsInfo{Volume: []string{"local"}, Network: []string{"bridge", "host", "null"}, Log: []string{"json-file"}},
		MemoryLimit: true, SwapLimit: true, CPUCfsPeriod: true, CPUCfsQuota: true, CPUShares: true, CPUSet: true, PidsLimit: true,
		IPv4Forwarding: true, NGoroutines: runtime.NumGoroutine(), NEventsListener: s.events.listeners(),
		SystemTime: time.Now().Format(time.RFC3339Nano), CgroupDriver: "cgroupfs", CgroupVersion: cgroupVersion(),
		KernelVersion: kernel(), OperatingSystem: operatingSystem(), OSType: runtime.GOOS, Architecture: machine(),
		IndexServerAddress: "https://index.docker.io/v1/", RegistryConfig: &apiregistry.ServiceConfig{IndexConfigs: map[string]*apiregistry.IndexInfo{}},
		NCPU: runtime.NumCPU(), MemTotal: memory(), Labels: []string{}, ServerVersion: version.String(),
		Runtimes: map[string]system.RuntimeWithStatus{}, Swarm: swarm.Info{LocalNodeState: swarm.LocalNodeStateInactive},
		SecurityOptions: []string{"name=seccomp,profile=builtin"}, CDISpecDirs: []string{"/etc/cdi", "/var/run/cdi"}, Warnings: []string{},
	}
	i.ContainersRunning, i.Containers = s.containers.Count()
	i.ContainersStopped = i.Containers - i.ContainersRunning
	i.Name, _ = os.Hostname()
	if !userns.IsRealRoot() {
		i.SecurityOptions = append(i.SecurityOptions, "name=rootless")
	}
	if path, err := ociruntime.Find(s.o.Runtime); err == nil && path != "" {
		i.DefaultRuntime = filepath.Base(path)
		i.Runtimes[i.DefaultRuntime] = system.RuntimeWithStatus{Runtime: system.Runtime{Path: path}}
	}
	return writeJSON(w, i)
}

// uname returns the names of the kernel and of the machine.
func uname() (u unix.Utsname) {
	_ = unix.Uname(&u) // it fails only for a bad address
	return u
}

func kernel() string {
	u := uname()
	return unix.ByteSliceToString(u.Release[:])
}

func machine() string {
	u := uname()
	return unix.ByteSliceToString(u.Machine[:])
}

func memory() int64 {
	var i unix.Sysinfo_t
	if err := unix.Sysinfo(&i); err != nil {
		return 0
	}
	return int64(i.Totalram) * int64(i.Unit)
}

func cgroupVersion() string {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err != nil {
		return "1"
	}
	return "2"
}

// operatingSystem is the name of the distribution: os-release(5).
func operatingSystem() string {
	text, _ := os.ReadFile("/etc/os-release")
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return strings.Trim(name, `"`)
		}
	}
	return runtime.GOOS
}

// maxAuth bounds the body of a login.
const maxAuth = 64 << 10

// auth asks a registry whether it takes credentials. The client keeps them.
func (s *Server) auth(w http.ResponseWriter, r *http.Request) error {
	var a apiregistry.AuthConfig
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAuth)).Decode(&a); err != nil {
		return badRequest("invalid credentials: %w", err)
	}
	host := hostOf(a.ServerAddress)
	if host == "" {
		host = "docker.io"
	}
	if err := s.client(nil).CheckLogin(r.Context(), host, authConfig(a)); err != nil {
		return err
	}
	return writeJSON(w, apiregistry.AuthResponse{Status: "Login Succeeded"})
}
