package containers

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	apinetwork "github.com/moby/moby/api/types/network"

	"github.com/micabuild/mica/internal/network"
)

// bare is a container of an empty manager, without files.
func bare(t *testing.T, name string, h *container.HostConfig) *Container {
	t.Helper()
	m := NewManager(Options{Root: t.TempDir()})
	c := &Container{
		ID: newID(), m: m, created: time.Now(), config: &container.Config{}, host: h, state: container.StateCreated,
		removed: make(chan struct{}), exit: make(chan struct{}),
	}
	var err error
	if c.endpoints, err = m.join(h.NetworkMode, nil); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.reserve(c, name), m.add(c)); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestStatus(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for want, c := range map[string]*Container{
		"Created":                    {state: container.StateCreated},
		"Up 5 minutes":               {state: container.StateRunning, run: &run{}, started: now.Add(-5 * time.Minute)},
		"Up About an hour":           {state: container.StateRunning, run: &run{}, started: now.Add(-time.Hour), removing: true},
		"Exited (137) 2 seconds ago": {state: container.StateExited, exitCode: 137, finished: now.Add(-2 * time.Second)},
		"Removal In Progress":        {state: container.StateExited, removing: true},
	} {
		if got := c.status(now); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestNetworkOfContainer(t *testing.T) {
	t.Parallel()
	for mode, want := range map[container.NetworkMode]string{
		"": "default", "default": "default", "bridge": "bridge", "host": "host", "none": "none",
		container.NetworkMode(builtin[1].ID): "host", container.NetworkMode(builtin[2].ID): "none", container.NetworkMode(builtin[0].ID): "bridge",
	} {
		if got := bare(t, "box", &container.HostConfig{NetworkMode: mode}).networkMode(); got != want {
			t.Errorf("%q: %q, want %q", mode, got, want)
		}
	}
	c := bare(t, "box", &container.HostConfig{})
	c.config.NetworkDisabled = true
	if got := c.networkMode(); got != "none" {
		t.Errorf("disabled: %q", got)
	}
}

func TestPorts(t *testing.T) {
	t.Parallel()
	port := apinetwork.MustParsePort
	c := bare(t, "box", &container.HostConfig{NetworkMode: "none"})
	c.config.ExposedPorts = apinetwork.PortSet{port("80/tcp"): {}, port("53/udp"): {}}
	if got := c.portSummaries(); len(got) != 0 {
		t.Errorf("of a container that does not run: %v", got)
	}
	at := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080}
	c.run, c.ports = &run{}, apinetwork.PortMap{port("80/tcp"): append(bindings(network.Port{}, at), bindings(network.Port{HostIP: "127.0.0.9"}, at)...)}
	want := []container.PortSummary{
		{PrivatePort: 53, Type: "udp"},
		{IP: netip.MustParseAddr("0.0.0.0"), PrivatePort: 80, PublicPort: 8080, Type: "tcp"},
		{IP: netip.MustParseAddr("127.0.0.9"), PrivatePort: 80, PublicPort: 8080, Type: "tcp"},
		{IP: netip.MustParseAddr("::"), PrivatePort: 80, PublicPort: 8080, Type: "tcp"},
	}
	if diff := cmp.Diff(want, c.portSummaries(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

// What Docker's daemon adds to the options of a container is shown, and what the client gave stays.
func TestComplete(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		given container.HostConfig
		check func(*container.HostConfig) bool
	}{
		"nothing": {container.HostConfig{}, func(h *container.HostConfig) bool {
			return h.NetworkMode == "bridge" && h.IpcMode == "private" && h.ShmSize == 64<<20 && h.LogConfig.Type == "json-file" && h.RestartPolicy.Name == "no" &&
				h.Runtime == "runc" && len(h.MaskedPaths) > 0 && len(h.ReadonlyPaths) > 0
		}},
		"the host's": {container.HostConfig{NetworkMode: "host", IpcMode: "host", Privileged: true}, func(h *container.HostConfig) bool {
			return h.NetworkMode == "host" && h.IpcMode == "host" && h.ShmSize == 0 && h.MaskedPaths == nil
		}},
		"given": {container.HostConfig{ShmSize: 5, CgroupnsMode: "host", MaskedPaths: []string{}}, func(h *container.HostConfig) bool {
			return h.ShmSize == 5 && h.CgroupnsMode == "host" && len(h.MaskedPaths) == 0
		}},
	} {
		if (&Container{}).complete(&c.given); !c.check(&c.given) {
			t.Errorf("%s: %+v", name, c.given)
		}
	}
}

// The IDs of the networks that always exist are no abbreviations of one another, and their first letter is nobody's.
func TestFindNetwork(t *testing.T) {
	t.Parallel()
	m := NewManager(Options{Root: t.TempDir()})
	for ref, want := range map[string]string{
		"default": "bridge", "bridge": "bridge", builtin[1].ID: "host", builtin[2].ID[:shortID]: "none", "a": "", "": "", "0": "",
	} {
		n, err := m.FindNetwork(ref)
		var typed *Error
		if n.Name != want || want == "" && (!errors.As(err, &typed) || typed.Kind != NotFound) {
			t.Errorf("%q: %q, %v", ref, n.Name, err)
		}
	}
	for i := range maxNetworks {
		if _, err := m.CreateNetwork(apinetwork.CreateRequest{Name: "n" + newID()[:shortID]}); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
	}
	if _, err := m.CreateNetwork(apinetwork.CreateRequest{Name: "more"}); !isKind(err, Conflict) {
		t.Errorf("one too many: %v", err)
	}
	if _, err := m.FindNetwork(m.Networks()[5].ID[:1]); err == nil {
		t.Error("an ambiguous prefix finds a network")
	}
}

// The names in a network are those of its members that run, and only there.
func TestHosts(t *testing.T) {
	t.Parallel()
	c := bare(t, "web", &container.HostConfig{})
	if got := c.networkHosts(); got != nil {
		t.Errorf("without a network of a name: %v", got)
	}
	n, err := c.m.CreateNetwork(apinetwork.CreateRequest{Name: "mine"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.m.Connect("mine", "web", &apinetwork.EndpointSettings{Aliases: []string{"www"}}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"web", c.ID[:shortID], "www"}, c.namesIn("mine")); diff != "" || c.namesIn("bridge")[0] != "web" || c.namesIn("none") != nil {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"mine"}, c.namedNetworks()); diff != "" {
		t.Error(diff)
	}
	if got := c.m.members("mine", true); len(got) != 0 {
		t.Errorf("running: %v", got)
	}
	if got := c.m.members("mine", false); len(got) != 1 || got[0] != c {
		t.Errorf("members: %v", got)
	}
	if err := c.checkNetworks(); err != nil {
		t.Error(err)
	}
	if err := c.m.RemoveNetwork(n.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := c.m.CreateNetwork(apinetwork.CreateRequest{Name: "mine"}); err != nil {
		t.Fatal(err)
	}
	if err := c.checkNetworks(); err == nil {
		t.Error("another network of the name is taken for the one that was removed")
	}
}

// A container is described while it joins and leaves networks. The race detector says whether both may.
func TestDescribeWhileConnected(t *testing.T) {
	t.Parallel()
	c := bare(t, "box", &container.HostConfig{NetworkMode: "bridge"})
	if _, err := c.m.CreateNetwork(apinetwork.CreateRequest{Name: "other"}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		for range 100 {
			if err := errors.Join(c.m.Connect("other", "box", nil), c.m.Disconnect("other", "box")); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for range 100 {
		if got := c.networkMode(); got != "bridge" {
			t.Errorf("%q", got)
		}
		_ = c.endpointSettings()
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A removal that is not forced finds the container running, however late it was started.
func TestRemoveWhileStarting(t *testing.T) {
	t.Parallel()
	for range 20 {
		c := bare(t, "box", &container.HostConfig{})
		c.starting.Lock()
		removed := make(chan error, 1)
		go func() { removed <- c.Remove(RemoveOptions{}) }()
		c.mu.Lock()
		c.run = &run{cancel: func(error) { t.Error("killed") }, ended: make(chan struct{})}
		c.mu.Unlock()
		c.starting.Unlock()
		if err := <-removed; !isKind(err, Conflict) {
			t.Error(err)
		}
	}
}

// Processes of exec that are never started do not keep others out, and those of an earlier run are forgotten.
func TestExecsNeverStarted(t *testing.T) {
	t.Parallel()
	c := bare(t, "box", &container.HostConfig{})
	earlier, now := &run{ended: make(chan struct{})}, &run{ended: make(chan struct{})}
	close(earlier.ended)
	add := func(r *run, begun bool) bool {
		return c.m.addExec(&Exec{ID: newID(), created: time.Now(), c: c, r: r, begun: begun})
	}
	for i := range maxExecs {
		if !add(earlier, true) {
			t.Fatal(i)
		}
	}
	for i := range 2 * maxExecs {
		if !add(now, false) {
			t.Fatal(i)
		}
	}
	for i := range maxExecs {
		if !add(now, true) {
			t.Fatal(i)
		}
	}
	if add(now, true) {
		t.Error("there is no limit of those that run")
	}
}
