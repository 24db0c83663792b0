package runcmd

import (
	"github.com/docker/cli/opts"
	"github.com/spf13/pflag"

	"github.com/micabuild/mica/internal/container"
)

// runDevices are the flags that give a container devices of the host's.
type runDevices struct {
	container.Devices

	gpus opts.GpuOpts
}

func (d *runDevices) add(fl *pflag.FlagSet) {
	fl.Var(opts.NewListOptsRef(&d.Nodes, nil), "device", "Add a host device to the container (format: path[:path][:rwm], or vendor/class=name of CDI)")
	fl.Var(opts.NewListOptsRef(&d.Rules, nil), "device-cgroup-rule", "Add a rule to the cgroup allowed devices list")
	fl.Var(&d.gpus, "gpus", "GPU devices to add to the container ('all' to pass all GPUs)")
}

func (d *runDevices) check() error {
	d.GPUs = d.gpus.Value()
	return d.Check()
}
