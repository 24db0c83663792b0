package buildspec

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/tonistiigi/go-csvvalue"
)

// Limits are the resources that a RUN instruction may use. What is nil or "" is not limited.
type Limits struct {
	Memory, MemorySwap             *int64 // bytes, -1 for no limit
	CPUShares, CPUPeriod, CPUQuota *int64
	CPUs, MemoryNodes              string // lists such as "0-2,7"
}

// LimitNames are the names of limits, in buildx's order.
func LimitNames() []string {
	return []string{"memory", "memory-swap", "cpu-shares", "cpu-period", "cpu-quota", "cpuset-cpus", "cpuset-mems"}
}

// ParseLimits reads --resource: "memory=2g,cpu-quota=50000".
func ParseLimits(list []string) (Limits, error) {
	var l Limits
	for _, s := range list {
		fields, err := csvvalue.Fields(s, nil)
		if err != nil {
			return l, fmt.Errorf("invalid resource %q: %w", s, err)
		}
		for _, f := range fields {
			key, value, ok := strings.Cut(f, "=")
			if !ok {
				return l, fmt.Errorf("invalid resource %q: expected key=value", f)
			}
			if err := l.Set(key, value); err != nil {
				return l, err
			}
		}
	}
	return l, nil
}

// Set reads the value of one limit.
func (l *Limits) Set(name, value string) error {
	switch name {
	case "cpuset-cpus":
		l.CPUs = value
		return nil
	case "cpuset-mems":
		l.MemoryNodes = value
		return nil
	}
	to, ok := map[string]**int64{
		"memory": &l.Memory, "memory-swap": &l.MemorySwap,
		"cpu-shares": &l.CPUShares, "cpu-period": &l.CPUPeriod, "cpu-quota": &l.CPUQuota,
	}[name]
	if !ok {
		names := LimitNames()
		return fmt.Errorf("unknown resource %q: use %s or %s", name, strings.Join(names[:len(names)-1], ", "), names[len(names)-1])
	}
	read := func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) }
	if strings.HasPrefix(name, "memory") && value != "-1" {
		read = units.RAMInBytes
	}
	n, err := read(value)
	if err != nil {
		return fmt.Errorf("invalid resource %q: %w", name+"="+value, err)
	}
	*to = &n
	return nil
}

// limitOptions are the names of limits as options of BuildKit's front end.
func limitOptions() map[string]string {
	return map[string]string{
		"memory": "memory", "memory-swap": "memswap", "cpu-shares": "cpushares", "cpu-period": "cpuperiod", "cpu-quota": "cpuquota",
		"cpuset-cpus": "cpusetcpus", "cpuset-mems": "cpusetmems",
	}
}

// FrontendOptions are the limits as options of BuildKit's front end.
func (l *Limits) FrontendOptions() map[string]string {
	values := map[string]string{"cpuset-cpus": l.CPUs, "cpuset-mems": l.MemoryNodes}
	for name, n := range map[string]*int64{
		"memory": l.Memory, "memory-swap": l.MemorySwap, "cpu-shares": l.CPUShares, "cpu-period": l.CPUPeriod, "cpu-quota": l.CPUQuota,
	} {
		if n != nil {
			values[name] = strconv.FormatInt(*n, 10)
		}
	}
	opts := map[string]string{}
	for name, option := range limitOptions() {
		if v := values[name]; v != "" {
			opts[option] = v
		}
	}
	return opts
}

// LimitsOf reads the limits among the options of BuildKit's front end.
func LimitsOf(opts map[string]string) (Limits, error) {
	var l Limits
	for name, option := range limitOptions() {
		if v := opts[option]; v != "" {
			if err := l.Set(name, v); err != nil {
				return Limits{}, err
			}
		}
	}
	return l, nil
}
