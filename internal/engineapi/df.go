package engineapi

import (
	"net/http"
	"slices"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/containers"
	"github.com/micabuild/mica/internal/dockerapi"
	"github.com/micabuild/mica/internal/prune"
	"github.com/micabuild/mica/internal/redact"
)

// usage is an answer for all versions of the API: the lists of those before 1.52, and the sums of later ones.
type usage struct {
	LayersSize int64                `json:",omitempty"`
	Images     *[]any               `json:",omitempty"`
	Containers *[]container.Summary `json:",omitempty"`
	Volumes    *[]volume.Volume     `json:",omitempty"`
	BuildCache *[]build.CacheRecord `json:",omitempty"`

	ImageUsage      *imageUsage          `json:",omitempty"`
	ContainerUsage  *container.DiskUsage `json:",omitempty"`
	VolumeUsage     *volume.DiskUsage    `json:",omitempty"`
	BuildCacheUsage *build.DiskUsage     `json:",omitempty"`
}

// imageUsage is Docker's type, with images as this server describes them.
type imageUsage struct {
	image.DiskUsage
	Items []any `json:"Items,omitempty"`
}

// diskUsage answers docker system df.
func (s *Server) diskUsage(w http.ResponseWriter, r *http.Request) error {
	kinds := r.URL.Query()["type"]
	for _, k := range kinds {
		switch system.DiskUsageObject(k) {
		case system.ContainerObject, system.ImageObject, system.VolumeObject, system.BuildCacheObject:
		default:
			return badRequest("unknown object type: %s", k)
		}
	}
	asked := func(k system.DiskUsageObject) bool {
		return len(kinds) == 0 || !since(r, "1.42") || slices.Contains(kinds, string(k))
	}
	verbose := boolean(r, "verbose") && since(r, "1.52")
	s.CollectLeft(r.Context())
	o, err := s.openStore(nil)
	if err != nil {
		return err
	}
	used, err := o.pruner().Usage(r.Context())
	if err != nil {
		return err
	}
	var u usage
	if asked(system.ImageObject) {
		if err := s.addImages(r, o, &u, used.Images, verbose); err != nil {
			return err
		}
	}
	if asked(system.BuildCacheObject) {
		addCache(o, &u, used, verbose)
	}
	if asked(system.ContainerObject) {
		if err := s.addContainers(r, &u, verbose); err != nil {
			return err
		}
	}
	if asked(system.VolumeObject) {
		if err := s.addVolumes(&u, verbose); err != nil {
			return err
		}
	}
	if verbose {
		u.LayersSize, u.Images, u.Containers, u.Volumes, u.BuildCache = 0, nil, nil, nil, nil
	}
	if !since(r, "1.52") {
		u.ImageUsage, u.ContainerUsage, u.VolumeUsage, u.BuildCacheUsage = nil, nil, nil, nil
	}
	return writeJSON(w, u)
}

func (s *Server) addImages(r *http.Request, o *requestStore, u *usage, row prune.Row, verbose bool) error {
	all, err := o.images.List(r.Context())
	if err != nil && all == nil {
		return err
	}
	shared := sharedSizes(o, all)
	items := []any{}
	for _, img := range all {
		sum := dockerapi.Summarize(img)
		sum.SharedSize = shared(img)
		if err := s.complete(r, o, img, &sum); err != nil {
			return err
		}
		if sum.Containers < 0 {
			sum.Containers = 0
		}
		items = append(items, sum)
	}
	u.LayersSize, u.Images = row.Size, &items
	u.ImageUsage = &imageUsage{DiskUsage: image.DiskUsage{
		ActiveCount: int64(row.Active), TotalCount: int64(row.Total), TotalSize: row.Size, Reclaimable: row.Reclaimable,
	}}
	if verbose {
		u.ImageUsage.Items = items
	}
	return nil
}

// addContainers adds the containers, by what they have changed.
func (s *Server) addContainers(r *http.Request, u *usage, verbose bool) error {
	list, err := s.containers.List(r.Context(), containers.ListOptions{All: true, Size: true})
	if err != nil {
		return err
	}
	u.Containers, u.ContainerUsage = &list, &container.DiskUsage{TotalCount: int64(len(list))}
	for _, c := range list {
		u.ContainerUsage.TotalSize += c.SizeRw
		if c.State == container.StateRunning {
			u.ContainerUsage.ActiveCount++
		} else {
			u.ContainerUsage.Reclaimable += c.SizeRw
		}
	}
	if verbose {
		u.ContainerUsage.Items = list
	}
	return nil
}

func (s *Server) addVolumes(u *usage, verbose bool) error {
	all, err := s.containers.Volumes().All()
	if err != nil {
		return err
	}
	used, list := s.containers.VolumesInUse(), []volume.Volume{}
	u.VolumeUsage = &volume.DiskUsage{TotalCount: int64(len(all))}
	for _, v := range all {
		v.UsageData = &volume.UsageData{RefCount: int64(len(used[v.Name])), Size: containers.VolumeSize(v)}
		list = append(list, *v)
		u.VolumeUsage.TotalSize += v.UsageData.Size
		if len(used[v.Name]) > 0 {
			u.VolumeUsage.ActiveCount++
		} else {
			u.VolumeUsage.Reclaimable += v.UsageData.Size
		}
	}
	u.Volumes = &list
	if verbose {
		u.VolumeUsage.Items = list
	}
	return nil
}

// addCache adds the steps and the cache mounts of builds.
func addCache(o *requestStore, u *usage, used *prune.Usage, verbose bool) {
	records := []build.CacheRecord{}
	for _, r := range used.Records {
		last := r.Used
		records = append(records, build.CacheRecord{
			ID: r.Key.Encoded()[:shownID], Type: "regular", Description: redact.URLs(r.Name), Size: ownSize(o, r), CreatedAt: r.Created, LastUsedAt: &last,
		})
	}
	for _, m := range used.Mounts {
		last := m.Used
		records = append(records, build.CacheRecord{
			ID: m.Name[:min(shownID, len(m.Name))], Type: "exec.cachemount", Description: "cache mount " + m.ID, Size: m.Size, CreatedAt: m.Used, LastUsedAt: &last,
		})
	}
	u.BuildCache = &records
	u.BuildCacheUsage = &build.DiskUsage{
		ActiveCount: int64(used.Cache.Active), TotalCount: int64(used.Cache.Total), TotalSize: used.Cache.Size, Reclaimable: used.Cache.Reclaimable,
	}
	if verbose {
		u.BuildCacheUsage.Items = records
	}
}

// shownID is how many digits of a key docker shows of build cache.
const shownID = 25

// ownSize is the size of the uppermost layers of the results of a step: those that it made, as far as its record shows that.
func ownSize(o *requestStore, r *buildcache.Record) (total int64) {
	for _, out := range r.Outputs {
		if len(out) > 0 {
			n, _ := o.layers.Size(out[len(out)-1].DiffID) // a layer that is gone has no size
			total += n
		}
	}
	return total
}
