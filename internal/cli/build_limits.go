package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tonistiigi/go-csvvalue"

	"github.com/micabuild/mica/internal/cgroup"
)

// openBuilds checks the limits of the steps of builds and opens the store, in a cgroup where they can be set.
func openBuilds(ctx context.Context, app *App, builds ...*buildFlags) error {
	var controllers []string
	parent := ""
	for _, f := range builds {
		limits, err := parseResources(slices.Concat(f.limits, f.resources))
		if err != nil {
			return err
		}
		r, err := stepLimits(limits)
		if err != nil {
			return err
		}
		if err := cgroup.Check(r); err != nil {
			return err
		}
		controllers = append(controllers, cgroup.Controllers(r)...)
		parent = first(parent, f.cgroupParent)
	}
	slices.Sort(controllers)
	return app.openLimited(ctx, slices.Compact(controllers), parent)
}

// stepLimits are limits in the runtime's terms. The front end makes the same of them.
func stepLimits(limits map[string]string) (*specs.LinuxResources, error) {
	memory, cpu := &specs.LinuxMemory{}, &specs.LinuxCPU{Cpus: limits["cpusetcpus"], Mems: limits["cpusetmems"]}
	for _, l := range []struct {
		name string
		set  func(n int64)
	}{
		{"memory", func(n int64) { memory.Limit = &n }},
		{"memswap", func(n int64) { memory.Swap = &n }},
		{"cpuquota", func(n int64) { cpu.Quota = &n }},
		{"cpushares", func(n int64) { u := uint64(n); cpu.Shares = &u }},
		{"cpuperiod", func(n int64) { u := uint64(n); cpu.Period = &u }},
	} {
		text := limits[l.name]
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("invalid %s value: %s: %w", l.name, text, err)
		}
		l.set(n)
	}
	return &specs.LinuxResources{Memory: orNil(memory), CPU: orNil(cpu)}, nil
}

// parseResources reads --resource into what the front end calls the limits.
func parseResources(list []string) (map[string]string, error) {
	limits := map[string]string{}
	for _, s := range list {
		fields, err := csvvalue.Fields(s, nil)
		if err != nil {
			return nil, fmt.Errorf("invalid resource %q: %w", s, err)
		}
		for _, f := range fields {
			key, value, ok := strings.Cut(f, "=")
			if !ok {
				return nil, fmt.Errorf("invalid resource %q: expected key=value", f)
			}
			switch key {
			case "memory", "memory-swap":
				if value != "-1" {
					n, err := units.RAMInBytes(value)
					if err != nil {
						return nil, fmt.Errorf("invalid resource %q: %w", f, err)
					}
					value = strconv.FormatInt(n, 10)
				}
				key = map[string]string{"memory": "memory", "memory-swap": "memswap"}[key]
			case "cpu-shares", "cpu-period", "cpu-quota", "cpuset-cpus", "cpuset-mems":
				key = strings.ReplaceAll(key, "-", "")
			default:
				return nil, fmt.Errorf("unknown resource %q: use memory, memory-swap, cpu-shares, cpu-period, cpu-quota, cpuset-cpus or cpuset-mems", key)
			}
			limits[key] = value
		}
	}
	return limits, nil
}
