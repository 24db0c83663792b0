package containers

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	apinetwork "github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/runtimespec"
)

// Inspect describes the container.
func (c *Container) Inspect(_ context.Context, withSize bool) *container.InspectResponse {
	c.mu.Lock()
	state := &container.State{
		Status: c.state, Running: c.run != nil, ExitCode: c.exitCode, OOMKilled: c.oom, Error: c.failure, StartedAt: formatTime(c.started), FinishedAt: formatTime(c.finished),
	}
	if c.run != nil {
		state.Pid = c.run.pid
	}
	c.mu.Unlock()
	host := *c.host
	c.complete(&host)
	r := &container.InspectResponse{
		ID: c.ID, Created: formatTime(c.created), State: state, Image: c.image.ID.String(), Name: "/" + c.Name(), Driver: "overlay2", Platform: "linux",
		HostConfig: &host, Config: c.config, Mounts: c.mountPoints(), NetworkSettings: c.networkSettings(), ExecIDs: c.execIDs(),
		Storage: &storage.Storage{RootFS: &storage.RootFSStorage{Snapshot: &storage.RootFSStorageSnapshot{Name: "overlayfs"}}},
	}
	if args := c.process.Args; len(args) > 0 {
		r.Path, r.Args = args[0], append([]string{}, args[1:]...)
	}
	if c.image.Target.Digest != "" {
		target := c.image.Target
		r.ImageManifestDescriptor = &target
	}
	if withSize {
		rw, root := c.sizes()
		r.SizeRw, r.SizeRootFs = &rw, &root
	}
	return r
}

// complete adds what Docker's daemon adds to the options of a container.
func (c *Container) complete(h *container.HostConfig) {
	if h.NetworkMode == "" || h.NetworkMode == "default" {
		h.NetworkMode = "bridge"
	}
	if h.IpcMode == "" {
		h.IpcMode = container.IPCModePrivate
	}
	if h.CgroupnsMode == "" {
		h.CgroupnsMode = container.CgroupnsModePrivate
	}
	if h.ShmSize == 0 && !h.IpcMode.IsHost() && !h.IpcMode.IsNone() {
		h.ShmSize = 64 << 20
	}
	if h.LogConfig.Type == "" {
		h.LogConfig = container.LogConfig{Type: "json-file", Config: map[string]string{}}
	}
	if h.RestartPolicy.Name == "" {
		h.RestartPolicy.Name = container.RestartPolicyDisabled
	}
	if h.Runtime == "" {
		h.Runtime = "runc"
	}
	if masked, readonly := runtimespec.HiddenPaths(); !h.Privileged {
		if h.MaskedPaths == nil {
			h.MaskedPaths = masked
		}
		if h.ReadonlyPaths == nil {
			h.ReadonlyPaths = readonly
		}
	}
	if h.PortBindings == nil {
		h.PortBindings = apinetwork.PortMap{}
	}
}

func (c *Container) mountPoints() []container.MountPoint {
	list := []container.MountPoint{}
	for _, p := range c.mounts {
		list = append(list, p.MountPoint)
	}
	return list
}

func (c *Container) networkSettings() *container.NetworkSettings {
	s := &container.NetworkSettings{Ports: apinetwork.PortMap{}, Networks: c.endpointSettings()}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run == nil {
		return s
	}
	for port := range c.config.ExposedPorts {
		s.Ports[port] = nil
	}
	for port, list := range c.ports {
		s.Ports[port] = list
	}
	return s
}

// address is the address that the containers share; invalid before the first one.
func (m *Manager) address() netip.Addr {
	own, err := m.o.Host.OwnNetwork(context.Background())
	if err != nil || own == nil {
		return netip.Addr{}
	}
	return own.Address()
}

// sizes are the bytes of the files that the container has changed, and of all; those of a container that is being removed are zero.
func (c *Container) sizes() (rw, all int64) {
	release, err := c.holdFiles()
	if err != nil {
		return 0, 0
	}
	defer release()
	rw = treeSize(c.root.Upper)
	return rw, rw + c.image.Size + c.layersSize()
}

func (c *Container) layersSize() (total int64) {
	if c.image.Size != 0 {
		return 0
	}
	for _, id := range c.image.Chain() {
		n, _ := c.layers.Size(id)
		total += n
	}
	return total
}

// treeSize is the size of the files below a directory, each counted once.
func treeSize(dir string) int64 {
	size := &sizeSum{seen: map[uint64]bool{}}
	_ = walkTree(context.Background(), dir, size)
	return size.total
}

// sizeSum is the visitor that adds sizes.
type sizeSum struct {
	total int64
	seen  map[uint64]bool
}

func (s *sizeSum) visit(f *found) error {
	if f.st.Mode&unix.S_IFMT != unix.S_IFREG || s.seen[f.st.Ino] {
		return nil
	}
	if f.st.Nlink > 1 {
		s.seen[f.st.Ino] = true
	}
	s.total += f.st.Size
	return nil
}

func (*sizeSum) leave(*found) error { return nil }

// Summary describes the container in a list.
func (c *Container) Summary(withSize bool) container.Summary {
	c.mu.Lock()
	state, status := c.state, c.status(time.Now())
	c.mu.Unlock()
	s := container.Summary{
		ID: c.ID, Names: []string{"/" + c.Name()}, Image: c.config.Image, ImageID: c.image.ID.String(), Command: command(c.process.Args),
		Created: c.created.Unix(), Ports: c.portSummaries(), Labels: c.config.Labels, State: state, Status: status,
		NetworkSettings: &container.NetworkSettingsSummary{Networks: c.endpointSettings()}, Mounts: c.mountPoints(),
	}
	s.HostConfig.NetworkMode = string(c.host.NetworkMode)
	if s.HostConfig.NetworkMode == "" || s.HostConfig.NetworkMode == "default" {
		s.HostConfig.NetworkMode = "bridge"
	}
	s.HostConfig.Annotations = c.host.Annotations
	if c.image.Target.Digest != "" {
		target := c.image.Target
		s.ImageManifestDescriptor = &target
	}
	if withSize {
		s.SizeRw, s.SizeRootFs = c.sizes()
	}
	return s
}

// command is a command line as docker ps shows it.
func command(args []string) string {
	parts := slices.Clone(args)
	for i, a := range parts[min(1, len(parts)):] {
		if strings.Contains(a, " ") {
			parts[i+1] = "'" + a + "'"
		}
	}
	return strings.Join(parts, " ")
}

func (c *Container) execIDs() []string {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	var ids []string
	for id, e := range c.m.execs {
		if e.c == c && e.running() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
