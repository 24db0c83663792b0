package runcmd

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/pflag"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/container"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/network"
	"github.com/micabuild/mica/internal/sandbox"
)

func (f *runFlags) addNetworkFlags(fl *pflag.FlagSet) {
	fl.StringVar(&f.network, "network", "default", "Connect the container to a network: default (its own), host, none")
	fl.StringVar(&f.network, "net", "default", "Connect the container to a network")
	_ = fl.MarkHidden("net")
	fl.StringArrayVarP(&f.publish, "publish", "p", nil, "Publish a container's port(s) to the host (format: [[ip:][hostPort]:]containerPort[/protocol])")
	fl.BoolVarP(&f.publishAll, "publish-all", "P", false, "Publish all exposed ports to random ports")
	fl.StringArrayVar(&f.expose, "expose", nil, "Expose a port or a range of ports")
}

// prepareNetwork publishes ports when the network is made, and warns if the container has another network than in Docker.
func (f *runFlags) prepareNetwork(ctx context.Context, app *command.App, img *image.Image, p *sandbox.Process) error {
	ports, err := f.published(img)
	if err != nil {
		return err
	}
	if p.Network != sandbox.NetworkOwn {
		if len(f.publish) > 0 && p.Network == sandbox.NetworkHost {
			fmt.Fprintln(app.Stderr, "WARNING: Published ports are discarded when using host network mode")
		}
		return nil
	}
	p.NetworkMade = func(own *network.Namespace, err error) error {
		switch {
		case err == nil:
			return publish(ctx, app, own, ports)
		case len(ports) > 0:
			return fmt.Errorf("publish ports: the container cannot have a network of its own: %w", err)
		}
		fmt.Fprintf(app.Stderr, "WARNING: the container uses the host's network: %v\n", err)
		return nil
	}
	return nil
}

func publish(ctx context.Context, app *command.App, own *network.Namespace, ports []network.Port) error {
	for _, port := range ports {
		at, _, err := own.Publish(ctx, port)
		if err != nil {
			return err
		}
		if port.First != port.Last || port.First == 0 {
			fmt.Fprintf(app.Stderr, "%s -> %s\n", port, at) // as docker port has it
		}
	}
	return nil
}

// published are the ports that -p and -P name.
func (f *runFlags) published(img *image.Image) ([]network.Port, error) {
	exposed := slices.Clone(f.expose)
	for port := range img.Config.Config.ExposedPorts {
		exposed = append(exposed, port)
	}
	return container.Ports(f.publish, exposed, f.publishAll)
}
