package container

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	cdispecs "tags.cncf.io/container-device-interface/specs-go"

	"github.com/micabuild/mica/internal/cdi"
	"github.com/micabuild/mica/internal/runtimespec"
	"github.com/micabuild/mica/internal/sandbox"
)

// addNamed gives p the devices that have names in CDI.
func addNamed(p *sandbox.Process, names []string) error {
	edits, err := cdi.Find(names)
	if err != nil {
		return err
	}
	for _, e := range edits {
		if err := edit(p, e); err != nil {
			return err
		}
	}
	return nil
}

// edit does to p what a specification says.
func edit(p *sandbox.Process, e cdispecs.ContainerEdits) error {
	for _, kv := range e.Env {
		p.Env = setEnv(p.Env, kv)
	}
	for _, gid := range e.AdditionalGIDs {
		if gid != 0 {
			p.Groups = append(p.Groups, strconv.FormatUint(uint64(gid), 10))
		}
	}
	for _, n := range e.DeviceNodes {
		d, err := namedDevice(n)
		if err != nil {
			return fmt.Errorf("device %s: %w", n.Path, err)
		}
		same := func(other runtimespec.Device) bool { return other.Node.Path == d.Node.Path }
		p.Devices = append(slices.DeleteFunc(p.Devices, same), d)
	}
	for _, m := range e.Mounts {
		given := sandbox.Mount{
			Type: sandbox.MountBind, Source: m.HostPath, Target: m.ContainerPath, ReadOnly: slices.Contains(m.Options, "ro"),
			TopOnly: slices.Contains(m.Options, "bind"),
		}
		if m.Type == "tmpfs" {
			given.Type, given.Source, given.Options = sandbox.MountTmpfs, "", strings.Join(m.Options, ",")
		}
		same := func(other sandbox.Mount) bool { return path.Clean(other.Target) == path.Clean(m.ContainerPath) }
		p.Mounts = append(slices.DeleteFunc(p.Mounts, same), given)
	}
	for _, h := range e.Hooks {
		if err := addHook(p, h); err != nil {
			return err
		}
	}
	return nil
}

// namedDevice is a device node: what the specification does not say is as the host's is.
func namedDevice(n *cdispecs.DeviceNode) (runtimespec.Device, error) {
	source := cmp.Or(n.HostPath, n.Path)
	d, err := deviceAt(source, path.Clean(n.Path), cmp.Or(n.Permissions, "rwm"))
	if err != nil {
		return d, err
	}
	if n.Type != "" && n.Major > 0 {
		d.Node.Type, d.Node.Major, d.Node.Minor = n.Type, n.Major, n.Minor
	}
	d.Node.FileMode, d.Node.UID, d.Node.GID = cmp.Or(n.FileMode, d.Node.FileMode), cmp.Or(n.UID, d.Node.UID), cmp.Or(n.GID, d.Node.GID)
	return d, nil
}

// addHook adds a program of the host's that the runtime starts.
func addHook(p *sandbox.Process, h *cdispecs.Hook) error {
	if p.Hooks == nil {
		p.Hooks = &specs.Hooks{}
	}
	lists := map[string]*[]specs.Hook{
		"prestart": &p.Hooks.Prestart, "createRuntime": &p.Hooks.CreateRuntime, "createContainer": &p.Hooks.CreateContainer, //nolint:staticcheck // CDI has it
		"startContainer": &p.Hooks.StartContainer, "poststart": &p.Hooks.Poststart, "poststop": &p.Hooks.Poststop,
	}
	list, ok := lists[h.HookName]
	if !ok {
		return fmt.Errorf("unknown hook %q: CDI has %s", h.HookName, strings.Join(slices.Sorted(maps.Keys(lists)), ", "))
	}
	*list = append(*list, specs.Hook{Path: h.Path, Args: h.Args, Env: h.Env, Timeout: h.Timeout})
	return nil
}
