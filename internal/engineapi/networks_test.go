package engineapi

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

// networks are the names of a list.
func (r *rig) networks(filters client.Filters) (list []string) {
	r.t.Helper()
	got, err := r.NetworkList(r.t.Context(), client.NetworkListOptions{Filters: filters})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, n := range got.Items {
		list = append(list, n.Name)
	}
	return list
}

func (r *rig) network(name string, labels map[string]string) string {
	r.t.Helper()
	got, err := r.NetworkCreate(r.t.Context(), name, client.NetworkCreateOptions{Driver: "bridge", Labels: labels})
	if err != nil {
		r.t.Fatal(err)
	}
	return got.ID
}

func in(name string, aliases ...string) client.ContainerCreateOptions {
	return client.ContainerCreateOptions{
		HostConfig:       &container.HostConfig{NetworkMode: container.NetworkMode(name)},
		NetworkingConfig: &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{name: {Aliases: aliases}}},
	}
}

func TestNetworks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.network("mine", map[string]string{"k": "v"})
	r.network("other", nil)
	for key, c := range map[string]struct {
		filters client.Filters
		want    []string
	}{
		"all":         {nil, []string{"bridge", "host", "none", "mine", "other"}},
		"name":        {make(client.Filters).Add("name", "in"), []string{"mine"}},
		"id":          {make(client.Filters).Add("id", id[:9]), []string{"mine"}},
		"driver":      {make(client.Filters).Add("driver", "null", "host"), []string{"host", "none"}},
		"label":       {make(client.Filters).Add("label", "k=v"), []string{"mine"}},
		"no label":    {make(client.Filters).Add("label", "k=x"), nil},
		"built in":    {make(client.Filters).Add("type", "builtin"), []string{"bridge", "host", "none"}},
		"own":         {make(client.Filters).Add("type", "custom"), []string{"mine", "other"}},
		"used by no":  {make(client.Filters).Add("dangling", "true"), []string{"mine", "other"}},
		"local, mine": {make(client.Filters).Add("scope", "local").Add("name", "mine"), []string{"mine"}},
		"of a swarm":  {make(client.Filters).Add("scope", "swarm"), nil},
	} {
		if diff := cmp.Diff(c.want, r.networks(c.filters)); diff != "" {
			t.Errorf("%s: %s", key, diff)
		}
	}
	if _, err := r.NetworkList(t.Context(), client.NetworkListOptions{Filters: make(client.Filters).Add("nonsense", "1")}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a wrong filter: %v", err)
	}
	for _, ref := range []string{"mine", id, id[:12]} {
		got, err := r.NetworkInspect(t.Context(), ref, client.NetworkInspectOptions{})
		if err != nil || got.Network.ID != id || got.Network.Driver != "bridge" || got.Network.Labels["k"] != "v" || got.Network.Created.IsZero() {
			t.Errorf("%s: %+v, %v", ref, got, err)
		}
	}
	if _, err := r.NetworkRemove(t.Context(), "other", client.NetworkRemoveOptions{}); err != nil {
		t.Error(err)
	}
	if pruned, err := r.NetworkPrune(t.Context(), client.NetworkPruneOptions{Filters: make(client.Filters).Add("label!", "k")}); err != nil || len(pruned.Report.NetworksDeleted) != 0 {
		t.Errorf("pruned %+v, %v", pruned, err)
	}
	if pruned, err := r.NetworkPrune(t.Context(), client.NetworkPruneOptions{}); err != nil || !slices.Equal(pruned.Report.NetworksDeleted, []string{"mine"}) {
		t.Errorf("pruned %+v, %v", pruned, err)
	}
}

// forbidden reports whether an error has the status 403.
func forbidden(err error) bool { return errdefs.IsPermissionDenied(err) }

func TestNetworkRefusals(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.network("taken", nil)
	no := false
	for name, c := range map[string]struct {
		name string
		o    client.NetworkCreateOptions
		kind func(error) bool
	}{
		"a taken name":   {"taken", client.NetworkCreateOptions{}, errdefs.IsConflict},
		"a built-in one": {"bridge", client.NetworkCreateOptions{}, forbidden},
		"a mode":         {"container:x", client.NetworkCreateOptions{}, errdefs.IsInvalidArgument},
		"no name":        {"", client.NetworkCreateOptions{}, errdefs.IsInvalidArgument},
		"a path":         {"../x", client.NetworkCreateOptions{}, errdefs.IsInvalidArgument},
		"a second host":  {"x", client.NetworkCreateOptions{Driver: "host"}, forbidden},
		"a driver":       {"x", client.NetworkCreateOptions{Driver: "macvlan"}, errdefs.IsNotImplemented},
		"isolation":      {"x", client.NetworkCreateOptions{Internal: true}, errdefs.IsNotImplemented},
		"a swarm's":      {"x", client.NetworkCreateOptions{Scope: "swarm"}, errdefs.IsNotImplemented},
		"an option":      {"x", client.NetworkCreateOptions{Options: map[string]string{"com.docker.network.bridge.enable_icc": "false"}}, errdefs.IsNotImplemented},
		"no IPv4":        {"x", client.NetworkCreateOptions{EnableIPv4: &no}, errdefs.IsNotImplemented},
		"a subnet": {"x", client.NetworkCreateOptions{IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: netip.MustParsePrefix("10.9.0.0/24")}}}},
			errdefs.IsNotImplemented},
	} {
		if _, err := r.NetworkCreate(t.Context(), c.name, c.o); err == nil || !c.kind(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, kind := range map[string]func(error) bool{"host": forbidden, "missing": errdefs.IsNotFound} {
		if _, err := r.NetworkRemove(t.Context(), name, client.NetworkRemoveOptions{}); !kind(err) {
			t.Errorf("remove %s: %v", name, err)
		}
	}
}

func TestContainersInNetworks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.image("1", "app:latest")
	id := r.network("mine", nil)
	r.network("second", nil)
	r.create("web", in("mine", "www"))
	r.create("lonely", in("none"))
	connect := func(net, name string, aliases ...string) error {
		_, err := r.NetworkConnect(t.Context(), net, client.NetworkConnectOptions{Container: name, EndpointConfig: &network.EndpointSettings{Aliases: aliases}})
		return err
	}
	disconnect := func(net, name string) error {
		_, err := r.NetworkDisconnect(t.Context(), net, client.NetworkDisconnectOptions{Container: name})
		return err
	}
	got, err := r.ContainerInspect(t.Context(), "web", client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	e := got.Container.NetworkSettings.Networks["mine"]
	if e == nil || e.NetworkID != id || !slices.Equal(e.Aliases, []string{"www"}) || !slices.Contains(e.DNSNames, "web") || got.Container.HostConfig.NetworkMode != "mine" {
		t.Errorf("%+v of %v", e, got.Container.HostConfig.NetworkMode)
	}
	if err := errors.Join(connect("second", "web"), disconnect("mine", "web")); err != nil {
		t.Error(err)
	}
	list := r.listed(client.ContainerListOptions{All: true, Filters: make(client.Filters).Add("network", "second")})
	if !slices.Equal(list, []string{"web"}) {
		t.Errorf("in the second network: %v", list)
	}
	for name, c := range map[string]struct {
		err  error
		kind func(error) bool
	}{
		"twice":               {connect("second", "web"), forbidden},
		"to none":             {connect("none", "web"), forbidden},
		"of none":             {connect("mine", "lonely"), forbidden},
		"a missing container": {connect("mine", "missing"), errdefs.IsNotFound},
		"a missing network":   {connect("missing", "web"), errdefs.IsNotFound},
		"a line in hosts":     {connect("mine", "web", "a\n1.2.3.4 b"), errdefs.IsInvalidArgument},
		"not in it":           {disconnect("mine", "web"), forbidden},
		"the last":            {disconnect("second", "web"), errdefs.IsNotImplemented},
	} {
		if c.err == nil || !c.kind(c.err) {
			t.Errorf("%s: %v", name, c.err)
		}
	}
	if pruned, err := r.NetworkPrune(t.Context(), client.NetworkPruneOptions{}); err != nil || !slices.Equal(pruned.Report.NetworksDeleted, []string{"mine"}) {
		t.Errorf("pruned %+v, %v", pruned, err)
	}
	// As in Docker, a container that does not run keeps no network.
	if _, err := r.NetworkRemove(t.Context(), "second", client.NetworkRemoveOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := r.ContainerStart(t.Context(), "web", client.ContainerStartOptions{}); !errdefs.IsNotFound(err) {
		t.Errorf("started without its network: %v", err)
	}
}

func TestEndpointRefusals(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.image("1", "app:latest")
	r.network("mine", nil)
	with := func(mode string, endpoints map[string]*network.EndpointSettings) client.ContainerCreateOptions {
		return client.ContainerCreateOptions{
			Config: &container.Config{Image: "app", Cmd: []string{"run"}}, HostConfig: &container.HostConfig{NetworkMode: container.NetworkMode(mode)},
			NetworkingConfig: &network.NetworkingConfig{EndpointsConfig: endpoints},
		}
	}
	for name, c := range map[string]struct {
		o    client.ContainerCreateOptions
		kind func(error) bool
	}{
		"two, one the host's": {with("host", map[string]*network.EndpointSettings{"mine": {}}), errdefs.IsInvalidArgument},
		"another container's": {with("container:x", nil), errdefs.IsNotImplemented},
		"an address": {with("mine", map[string]*network.EndpointSettings{"mine": {IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: netip.MustParseAddr("10.0.0.9")}}}),
			errdefs.IsNotImplemented},
		"a link":             {with("mine", map[string]*network.EndpointSettings{"mine": {Links: []string{"a:b"}}}), errdefs.IsNotImplemented},
		"an alias on bridge": {with("bridge", map[string]*network.EndpointSettings{"bridge": {Aliases: []string{"a"}}}), errdefs.IsInvalidArgument},
		"a bad alias":        {with("mine", map[string]*network.EndpointSettings{"mine": {Aliases: []string{"a b"}}}), errdefs.IsInvalidArgument},
	} {
		if _, err := r.ContainerCreate(t.Context(), c.o); err == nil || !c.kind(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
