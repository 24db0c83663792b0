package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/volume"

	"github.com/micabuild/mica/internal/store"
)

// Volumes are the volumes of a store: directories volumes/NAME, each with a record and the files in _data. Many processes may use them.
type Volumes struct {
	root    string
	publish func(kind events.Type, action events.Action, id string, attributes map[string]string)
}

const (
	volumesDir     = "volumes"
	dataDir        = "_data"
	recordFile     = "volume.json"
	anonymousLabel = "com.docker.volume.anonymous"
)

// record is what the store keeps of a volume.
type record struct {
	Created time.Time         `json:"created"`
	Labels  map[string]string `json:"labels,omitempty"`
}

func checkVolumeName(name string) error {
	switch {
	case len(name) > maxVolumeName:
		return fail(Invalid, "create: the name of a volume has at most %d characters", maxVolumeName)
	case !validName(name):
		return fail(Invalid, "create %s: %q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path", name, name)
	}
	return nil
}

func lockName(name string) string { return "volume-" + name }

// fillLock is the name of the lock of the one that fills a volume.
func fillLock(name string) string { return "fill-" + name }

// Create makes a volume, or returns the one that exists.
func (v *Volumes) Create(ctx context.Context, o volume.CreateRequest) (*volume.Volume, error) {
	switch {
	case o.ClusterVolumeSpec != nil:
		return nil, fail(Unsupported, "cluster volumes are not supported")
	case o.Driver != "" && o.Driver != "local":
		return nil, fail(NotFound, "create %s: error looking up volume plugin %s: plugin %q not found", o.Name, o.Driver, o.Driver)
	case len(o.DriverOpts) > 0:
		return nil, fail(Unsupported, "create %s: options of volume drivers are not supported: a volume is a directory of the store", o.Name)
	}
	s, err := store.Open(v.root)
	if err != nil {
		return nil, err
	}
	labels := maps.Clone(o.Labels)
	if o.Name == "" {
		o.Name = newID()
		labels = with(labels, anonymousLabel, "")
	}
	made, hold, err := v.acquire(ctx, s, o.Name, labels)
	if err != nil {
		return nil, err
	}
	return made, hold.Unlock()
}

// acquire makes a volume unless it exists, and keeps it from being removed by any process until the lock is released.
func (v *Volumes) acquire(ctx context.Context, s *store.Store, name string, labels map[string]string) (*volume.Volume, *store.Lock, error) {
	if err := checkVolumeName(name); err != nil {
		return nil, nil, err
	}
	hold, err := s.RLock(ctx, lockName(name))
	if err != nil {
		return nil, nil, err
	}
	made, err := v.make(s, name, labels)
	if err != nil {
		return nil, nil, errors.Join(err, hold.Unlock())
	}
	return made, hold, nil
}

// make makes a volume unless it exists, for a caller that has its lock. It appears by a rename.
func (v *Volumes) make(s *store.Store, name string, labels map[string]string) (*volume.Volume, error) {
	if found, err := v.read(s, name); err == nil {
		return found, nil
	}
	if err := os.MkdirAll(s.Path(volumesDir), 0o711); err != nil {
		return nil, fmt.Errorf("create volume %s: %w", name, err)
	}
	tmp, err := s.TempDir("volume")
	if err != nil {
		return nil, err
	}
	defer func() { _ = tmp.Remove() }()
	made := filepath.Join(tmp.Path, "volume")
	raw, err := json.Marshal(record{time.Now().UTC(), labels})
	if err == nil {
		err = os.MkdirAll(filepath.Join(made, dataDir), 0o755)
	}
	if err == nil {
		err = os.Chmod(made, 0o711)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(made, recordFile), raw, 0o644)
	}
	if err == nil {
		err = os.Rename(made, s.Path(volumesDir, name))
	}
	if err != nil && !errors.Is(err, fs.ErrExist) { // made by another process
		return nil, fmt.Errorf("create volume %s: %w", name, err)
	}
	if err == nil {
		v.publish(events.VolumeEventType, events.ActionCreate, name, map[string]string{"driver": "local"})
	}
	return v.read(s, name)
}

func (v *Volumes) read(s *store.Store, name string) (*volume.Volume, error) {
	if len(name) <= maxVolumeName && validName(name) {
		raw, err := os.ReadFile(s.Path(volumesDir, name, recordFile))
		if err == nil {
			var r record
			if err := json.Unmarshal(raw, &r); err != nil {
				return nil, fmt.Errorf("read volume %s: %w", name, err)
			}
			return &volume.Volume{
				Name: name, Driver: "local", Scope: "local", Mountpoint: s.Path(volumesDir, name, dataDir), CreatedAt: r.Created.Format(time.RFC3339), Labels: r.Labels,
			}, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read volume: %w", err)
		}
	}
	return nil, fail(NotFound, "get %s: no such volume", name)
}

// Get returns a volume.
func (v *Volumes) Get(name string) (*volume.Volume, error) {
	s, err := store.Open(v.root)
	if err != nil {
		return nil, err
	}
	return v.read(s, name)
}

// All returns the volumes, by name.
func (v *Volumes) All() ([]*volume.Volume, error) {
	s, err := store.Open(v.root)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(s.Path(volumesDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	var all []*volume.Volume
	for _, e := range entries {
		if found, err := v.read(s, e.Name()); err == nil {
			all = append(all, found)
		}
	}
	return all, nil
}

// Remove removes a volume that no container has.
func (v *Volumes) Remove(name string, force bool) error {
	s, err := store.Open(v.root)
	if err != nil {
		return err
	}
	if _, err := v.read(s, name); err != nil {
		if force && isKind(err, NotFound) {
			return nil
		}
		return err
	}
	_, err = v.remove(s, name)
	return err
}

func (v *Volumes) remove(s *store.Store, name string) (freed int64, err error) {
	lock, ok, err := s.TryLock(lockName(name))
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, fail(Conflict, "remove %s: volume is in use", name)
	}
	freed, err = s.RemoveTree(s.Path(volumesDir, name))
	err = errors.Join(err, lock.Unlock(), s.RemoveLocks(lockName(name)), s.RemoveLocks(fillLock(name)))
	if err == nil {
		v.publish(events.VolumeEventType, events.ActionDestroy, name, map[string]string{"driver": "local"})
	}
	return freed, err
}

// Prune removes the volumes that no container has and that wanted accepts.
func (v *Volumes) Prune(wanted func(*volume.Volume) bool) (*volume.PruneReport, error) {
	all, err := v.All()
	if err != nil {
		return nil, err
	}
	s, err := store.Open(v.root)
	if err != nil {
		return nil, err
	}
	report := &volume.PruneReport{VolumesDeleted: []string{}}
	var errs []error
	for _, found := range all {
		if !wanted(found) {
			continue
		}
		freed, err := v.remove(s, found.Name)
		if isKind(err, Conflict) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		report.VolumesDeleted = append(report.VolumesDeleted, found.Name)
		report.SpaceReclaimed += uint64(freed)
	}
	return report, errors.Join(errs...)
}

// VolumeSize is the size of the files of a volume.
func VolumeSize(v *volume.Volume) int64 { return treeSize(v.Mountpoint) }

// IsAnonymous reports whether a volume was made without a name.
func IsAnonymous(v *volume.Volume) bool {
	_, ok := v.Labels[anonymousLabel]
	return ok
}

// MatchLabels reports whether labels have all conditions: KEY or KEY=VALUE.
func MatchLabels(labels map[string]string, conditions []string) bool {
	return !slices.ContainsFunc(conditions, func(condition string) bool {
		key, want, withValue := strings.Cut(condition, "=")
		value, ok := labels[key]
		return !ok || withValue && value != want
	})
}

// VolumesInUse are the names of the volumes of containers, with the IDs of those that have them.
func (m *Manager) VolumesInUse() map[string][]string {
	used := map[string][]string{}
	for _, c := range m.list() {
		for _, p := range c.mounts {
			if p.Name != "" && !slices.Contains(used[p.Name], c.ID) {
				used[p.Name] = append(used[p.Name], c.ID)
			}
		}
	}
	return used
}

// RemoveVolume removes a volume that no container has. The error of one that containers have names them.
func (m *Manager) RemoveVolume(name string, force bool) error {
	err := m.volumes.Remove(name, force)
	if users := m.VolumesInUse()[name]; isKind(err, Conflict) && len(users) > 0 {
		return fail(Conflict, "%w - [%s]", err, strings.Join(users, ", "))
	}
	return err
}
