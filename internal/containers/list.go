package containers

import (
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	apinetwork "github.com/moby/moby/api/types/network"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/store"
)

// status is the state in words, as docker ps shows it. c.mu is held.
func (c *Container) status(now time.Time) string {
	ago := func(t time.Time) string { return units.HumanDuration(now.Sub(t)) }
	switch {
	case c.removing && c.run == nil:
		return "Removal In Progress"
	case c.run != nil:
		return "Up " + ago(c.started)
	case c.state == container.StateExited:
		return fmt.Sprintf("Exited (%d) %s ago", c.exitCode, ago(c.finished))
	}
	return "Created"
}

// ListOptions select containers.
type ListOptions struct {
	All, Size bool
	Limit     int // the newest; 0 for all
	Filters   map[string][]string
}

// listFilters are the keys that a list takes.
var listFilters = []string{
	"ancestor", "annotation", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name", "network", "publish", "since",
	"status", "volume",
}

// List describes the containers, the newest first.
func (m *Manager) List(ctx context.Context, o ListOptions) ([]container.Summary, error) {
	match, err := m.matcher(ctx, o.Filters)
	if err != nil {
		return nil, err
	}
	all := o.All || o.Limit > 0 || len(o.Filters["status"]) > 0 || len(o.Filters["exited"]) > 0
	list := []container.Summary{}
	for _, c := range m.list() {
		if !all && !c.Running() || !match(c) {
			continue
		}
		if list = append(list, c.Summary(o.Size)); len(list) == o.Limit {
			break
		}
	}
	return list, nil
}

type condition func(*Container) bool

// matcher returns what tests filters: each key by one of its values, all labels and annotations.
func (m *Manager) matcher(ctx context.Context, filters map[string][]string) (condition, error) {
	var conditions []condition
	for key, values := range filters {
		if !slices.Contains(listFilters, key) {
			return nil, fail(Invalid, "invalid filter '%s'", key)
		}
		if len(values) == 0 {
			continue
		}
		switch key {
		case "label":
			conditions = append(conditions, func(c *Container) bool { return MatchLabels(c.config.Labels, values) })
			continue
		case "annotation":
			conditions = append(conditions, func(c *Container) bool { return MatchLabels(c.host.Annotations, values) })
			continue
		}
		var any []condition
		for _, v := range values {
			test, err := m.condition(ctx, key, v)
			if err != nil {
				return nil, err
			}
			any = append(any, test)
		}
		conditions = append(conditions, func(c *Container) bool {
			return slices.ContainsFunc(any, func(test condition) bool { return test(c) })
		})
	}
	return func(c *Container) bool {
		return !slices.ContainsFunc(conditions, func(test condition) bool { return !test(c) })
	}, nil
}

func (m *Manager) condition(ctx context.Context, key, value string) (condition, error) {
	switch key {
	case "id":
		return func(c *Container) bool { return strings.HasPrefix(c.ID, value) }, nil
	case "name":
		pattern, err := regexp.Compile(value)
		if err != nil {
			return nil, fail(Invalid, "invalid filter 'name=%s': %w", value, err)
		}
		return func(c *Container) bool { return pattern.MatchString(c.Name()) || pattern.MatchString("/"+c.Name()) }, nil
	case "status":
		return statusCondition(value)
	case "exited":
		code, err := strconv.Atoi(value)
		if err != nil {
			return nil, fail(Invalid, "invalid filter 'exited=%s': %w", value, err)
		}
		return func(c *Container) bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.state == container.StateExited && c.exitCode == code
		}, nil
	case "before", "since":
		other, err := m.Find(value)
		if err != nil {
			return nil, err
		}
		return func(c *Container) bool {
			return key == "before" && c.created.Before(other.created) || key == "since" && c.created.After(other.created)
		}, nil
	case "ancestor":
		return m.ancestorCondition(ctx, value)
	case "volume":
		return func(c *Container) bool {
			return slices.ContainsFunc(c.mounts, func(p mountPoint) bool {
				return p.Name == value && value != "" || p.Source == value || p.Destination == path.Clean(value)
			})
		}, nil
	case "network":
		n, err := m.FindNetwork(value)
		return func(c *Container) bool { return err == nil && c.isIn(n.Name) }, nil
	case "publish", "expose":
		return portCondition(key, value)
	case "health":
		if err := container.ValidateHealthStatus(container.HealthStatus(value)); err != nil {
			return nil, fail(Invalid, "invalid filter 'health=%s': %w", value, err)
		}
		return func(*Container) bool { return value == "none" }, nil
	case "is-task":
		return func(*Container) bool { return value == "false" || value == "0" }, nil
	}
	return func(*Container) bool { return true }, nil
}

func statusCondition(value string) (condition, error) {
	state := container.ContainerState(value)
	if err := container.ValidateContainerState(state); err != nil {
		return nil, fail(Invalid, "invalid filter 'status=%s': %w", value, err)
	}
	return func(c *Container) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.state == state
	}, nil
}

// ancestorCondition matches containers of an image, or of one that has its layers.
func (m *Manager) ancestorCondition(ctx context.Context, ref string) (condition, error) {
	s, err := store.Open(m.o.Root)
	if err != nil {
		return nil, err
	}
	img, err := image.New(s, layer.New(s)).Find(ctx, ref)
	if image.IsMissing(err) {
		return func(*Container) bool { return false }, nil
	}
	if err != nil {
		return nil, err
	}
	chain := img.Chain()
	return func(c *Container) bool {
		own := c.image.Chain()
		return c.image.ID == img.ID || len(own) >= len(chain) && len(chain) > 0 && slices.Equal(own[:len(chain)], chain)
	}, nil
}

func portCondition(key, value string) (condition, error) {
	ports, err := apinetwork.ParsePortRange(value)
	if err != nil {
		return nil, fail(Invalid, "invalid filter '%s=%s': %w", key, value, err)
	}
	in := func(p apinetwork.Port) bool {
		return p.Proto() == ports.Proto() && p.Num() >= ports.Start() && p.Num() <= ports.End()
	}
	return func(c *Container) bool {
		if key == "expose" {
			for p := range c.config.ExposedPorts {
				if in(p) {
					return true
				}
			}
			return false
		}
		for p, list := range c.host.PortBindings {
			if len(list) > 0 && in(p) {
				return true
			}
		}
		return false
	}, nil
}

// Prune removes the containers that do not run and that filters accept: until, label and label!.
func (m *Manager) Prune(until time.Time, labels, without []string) (*container.PruneReport, error) {
	report := &container.PruneReport{ContainersDeleted: []string{}}
	for _, c := range m.list() {
		matches := MatchLabels(c.config.Labels, labels) && (len(without) == 0 || !MatchLabels(c.config.Labels, without))
		if c.Running() || !matches || !until.IsZero() && !c.created.Before(until) {
			continue
		}
		size, _ := c.sizes()
		err := c.Remove(RemoveOptions{})
		if isKind(err, Conflict) {
			continue
		}
		if err != nil {
			return report, err
		}
		report.ContainersDeleted = append(report.ContainersDeleted, c.ID)
		report.SpaceReclaimed += uint64(size)
	}
	return report, nil
}

// UserOf returns the ID of a container that has an image, "" for none, and whether it runs: one that does is preferred.
func (m *Manager) UserOf(img digest.Digest) (id string, running bool) {
	for _, c := range m.list() {
		switch {
		case c.image.ID != img:
		case c.Running():
			return c.ID, true
		case id == "":
			id = c.ID
		}
	}
	return id, false
}
