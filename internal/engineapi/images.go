package engineapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	imagetypes "github.com/moby/moby/api/types/image"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/dockerapi"
	"github.com/micabuild/mica/internal/image"
)

// listImages answers docker images.
func (s *Server) listImages(w http.ResponseWriter, r *http.Request) error {
	lists, err := filters(r)
	if err != nil {
		return err
	}
	if old := r.URL.Query().Get("filter"); old != "" {
		lists["reference"] = append(lists["reference"], old)
	}
	if boolean(r, "identity") {
		return badRequest("mica does not know the identities of images")
	}
	o, err := s.openStore(nil)
	if err != nil {
		return err
	}
	filter, err := newFilter(r.Context(), o, conditions(lists), "dangling", "label", "before", "since", "reference", "until")
	if err != nil {
		return err
	}
	all, err := o.images.List(r.Context())
	if err != nil && all == nil {
		return err
	}
	list, err := s.summaries(r, o, all, filter)
	if err != nil {
		return err
	}
	return writeJSON(w, list)
}

// newFilter parses conditions. A mistake in one is the client's.
func newFilter(ctx context.Context, o *requestStore, conditions []string, allowed ...string) (*image.Filter, error) {
	f, err := o.images.NewFilter(ctx, conditions, allowed...)
	if err != nil && !image.IsMissing(err) {
		err = &requestError{http.StatusBadRequest, err}
	}
	return f, err
}

// oldSummary has a field that the API had before 1.44.
type oldSummary struct {
	imagetypes.Summary
	VirtualSize int64
}

// summaries describes the images that a filter selects.
func (s *Server) summaries(r *http.Request, o *requestStore, all []*image.Image, filter *image.Filter) ([]any, error) {
	shared := func(*image.Image) int64 { return -1 }
	if boolean(r, "shared-size") && since(r, "1.42") {
		shared = sharedSizes(o, all)
	}
	list := []any{}
	for _, img := range all {
		names, ok := filter.Match(img)
		if !ok {
			continue
		}
		img.Names = names
		sum := dockerapi.Summarize(img)
		sum.SharedSize = shared(img)
		if err := s.complete(r, o, img, &sum); err != nil {
			return nil, err
		}
		if since(r, "1.44") {
			list = append(list, sum)
		} else {
			list = append(list, oldSummary{sum, sum.Size})
		}
	}
	return list, nil
}

// complete adds to a summary what depends on the version of the API.
func (s *Server) complete(r *http.Request, o *requestStore, img *image.Image, sum *imagetypes.Summary) (err error) {
	if !since(r, "1.43") && len(sum.RepoTags) == 0 && len(sum.RepoDigests) == 0 {
		sum.RepoTags, sum.RepoDigests = []string{"<none>:<none>"}, []string{"<none>@<none>"}
	}
	if sum.RepoTags == nil {
		sum.RepoTags = []string{}
	}
	if sum.RepoDigests == nil {
		sum.RepoDigests = []string{}
	}
	if since(r, "1.51") {
		if sum.Containers, err = usingContainers(o, img); err != nil {
			return err
		}
	}
	if since(r, "1.48") {
		sum.Descriptor = root(img)
	}
	if since(r, "1.47") && boolean(r, "manifests") {
		sum.Manifests, err = manifests(o, img)
	}
	return err
}

// usingContainers is 1 for an image that a container runs: the store does not count them.
func usingContainers(o *requestStore, img *image.Image) (int64, error) {
	running, err := o.images.InUse(img)
	if running {
		return 1, err
	}
	return 0, err
}

// sharedSizes returns a function of the size of the layers that an image shares with others.
func sharedSizes(o *requestStore, all []*image.Image) func(*image.Image) int64 {
	count := map[digest.Digest]int{}
	for _, img := range all {
		for id := range unique(img.Chain()) {
			count[id]++
		}
	}
	return func(img *image.Image) (total int64) {
		for id := range unique(img.Chain()) {
			if n, err := o.layers.Size(id); err == nil && count[id] > 1 {
				total += n
			}
		}
		return total
	}
}

func unique(chain []digest.Digest) map[digest.Digest]bool {
	set := make(map[digest.Digest]bool, len(chain))
	for _, id := range chain {
		set[id] = true
	}
	return set
}

// getImage serves the paths below an image, whose name has slashes.
func (s *Server) getImage(w http.ResponseWriter, r *http.Request) error {
	rest := r.PathValue("rest")
	for suffix, h := range map[string]func(http.ResponseWriter, *http.Request, string) error{
		"/json": s.inspectImage, "/history": s.history, "/get": s.saveImage,
	} {
		if name, ok := strings.CutSuffix(rest, suffix); ok && name != "" {
			return h(w, r, name)
		}
	}
	return pageNotFound
}

// postImage is getImage for what changes images.
func (s *Server) postImage(w http.ResponseWriter, r *http.Request) error {
	rest := r.PathValue("rest")
	if name, ok := strings.CutSuffix(rest, "/tag"); ok && name != "" {
		return s.tag(w, r, name)
	}
	if name, ok := strings.CutSuffix(rest, "/push"); ok && name != "" {
		return s.push(w, r, name)
	}
	return pageNotFound
}

func searchImages(http.ResponseWriter, *http.Request) error {
	return &requestError{http.StatusNotImplemented, errors.New("mica does not search registries: ask the registry's own site")}
}

// inspectImage answers docker image inspect.
func (s *Server) inspectImage(w http.ResponseWriter, r *http.Request, name string) error {
	want, err := platform(r)
	if err != nil {
		return err
	}
	withManifests := boolean(r, "manifests") && since(r, "1.48")
	if !since(r, "1.49") {
		want = nil
	}
	if withManifests && want != nil {
		return badRequest("conflicting options: manifests and platform options cannot both be set")
	}
	o, err := s.openStore(nil)
	if err != nil {
		return err
	}
	img, err := o.images.FindNamed(r.Context(), name, want)
	if err != nil {
		return err
	}
	got := dockerapi.Inspect(img)
	if since(r, "1.48") {
		got.Descriptor = root(img)
	}
	if withManifests {
		if got.Manifests, err = manifests(o, img); err != nil {
			return err
		}
	}
	return writeInspect(w, r, got)
}

// writeInspect adds the fields that older versions of the API have.
func writeInspect(w http.ResponseWriter, r *http.Request, got *imagetypes.InspectResponse) error {
	if since(r, "1.52") {
		return writeJSON(w, got)
	}
	raw, err := json.Marshal(got)
	if err != nil {
		return err
	}
	var fields map[string]any
	if err := json.Unmarshal(raw, &fields); err != nil {
		return err
	}
	missing := map[string]any{
		"Parent": "", "Comment": "", "DockerVersion": "", "Author": "", "GraphDriver": map[string]any{"Name": "overlay", "Data": nil},
	}
	if !since(r, "1.44") {
		missing["VirtualSize"], missing["Created"] = got.Size, time.Time{}.Format(time.RFC3339Nano)
	}
	if !since(r, "1.45") {
		missing["Container"], missing["ContainerConfig"] = "", nil
	}
	addMissing(fields, missing)
	if config, ok := fields["Config"].(map[string]any); ok {
		addMissing(config, map[string]any{
			"Cmd": nil, "Entrypoint": nil, "Env": nil, "Labels": nil, "OnBuild": nil, "User": "", "Volumes": nil, "WorkingDir": "",
		})
		if !since(r, "1.50") {
			addMissing(config, map[string]any{
				"AttachStderr": false, "AttachStdin": false, "AttachStdout": false, "Domainname": "", "Hostname": "", "Image": "", "OpenStdin": false,
				"StdinOnce": false, "Tty": false,
			})
		}
	}
	return writeJSON(w, fields)
}

func addMissing(fields, missing map[string]any) {
	for key, value := range missing {
		if _, ok := fields[key]; !ok {
			fields[key] = value
		}
	}
}

// history answers docker history.
func (s *Server) history(w http.ResponseWriter, r *http.Request, name string) error {
	want, err := platform(r)
	if err != nil {
		return err
	}
	o, err := s.openStore(nil)
	if err != nil {
		return err
	}
	img, err := o.images.FindNamed(r.Context(), name, want)
	if err != nil {
		return err
	}
	items, err := o.images.History(r.Context(), img)
	if err != nil {
		return err
	}
	list := []imagetypes.HistoryResponseItem{}
	for i, item := range items {
		h := imagetypes.HistoryResponseItem{ID: item.ID, CreatedBy: item.CreatedBy, Size: item.Size, Comment: item.Comment}
		if !item.Created.IsZero() {
			h.Created = item.Created.Unix()
		}
		if i == 0 {
			h.Tags = img.Names
		}
		list = append(list, h)
	}
	return writeJSON(w, list)
}

// tag answers docker tag.
func (s *Server) tag(w http.ResponseWriter, r *http.Request, source string) error {
	target, err := repoTag(r.URL.Query().Get("repo"), r.URL.Query().Get("tag"))
	if err != nil {
		return err
	}
	if target == nil {
		return badRequest("invalid reference format")
	}
	return s.withStore(r.Context(), nil, func(o *requestStore) error {
		img, err := o.images.Find(r.Context(), source)
		if err != nil {
			return err
		}
		if err := o.images.Tag(r.Context(), img, target.String()); err != nil {
			return err
		}
		s.imageEvent(events.ActionTag, img.ID.String(), reference.FamiliarString(target), img.Config.Config.Labels)
		w.WriteHeader(http.StatusCreated)
		return nil
	})
}

// removeImage answers docker rmi. There are no parents to prune.
func (s *Server) removeImage(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	if strings.TrimSpace(name) == "" {
		return badRequest("image name cannot be blank")
	}
	if len(r.URL.Query()["platforms"]) > 0 {
		return badRequest("mica removes images with all of their platforms")
	}
	o, err := s.openStore(nil)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	if img, err := o.images.Find(r.Context(), name); err == nil {
		known[img.ID.String()] = true
	}
	lines, err := o.images.Remove(r.Context(), name, boolean(r, "force"))
	if err != nil {
		return s.usedBy(err)
	}
	s.removedEvents(known, lines)
	s.collectRemoved(r.Context())
	return writeJSON(w, lines)
}

// usedBy names the container in the error of an image that is in use. Those of other processes are unknown.
func (s *Server) usedBy(err error) error {
	var conflict *image.ConflictError
	if !errors.As(err, &conflict) || conflict.Used == "" {
		return err
	}
	id, running := s.containers.UserOf(conflict.Used)
	if id == "" {
		return err
	}
	state := "stopped"
	if running {
		state = "running"
	}
	return &image.ConflictError{Used: conflict.Used, Reason: fmt.Sprintf(
		"unable to delete %s (cannot be forced) - image is being used by %s container %s", conflict.Used.Encoded()[:12], state, id[:12])}
}

// pruneImages answers docker image prune.
func (s *Server) pruneImages(w http.ResponseWriter, r *http.Request) error {
	s.CollectLeft(r.Context()) // its space is not the prune's
	lists, err := filters(r)
	if err != nil {
		return err
	}
	all := false
	if d := lists["dangling"]; len(d) > 0 {
		delete(lists, "dangling")
		all = d[0] == "false" || d[0] == "0"
	}
	o, err := s.openStore(nil)
	if err != nil {
		return err
	}
	filter, err := newFilter(r.Context(), o, conditions(lists), "until", "label", "label!")
	if err != nil {
		return err
	}
	known := map[string]bool{}
	before, _ := o.images.List(r.Context()) // a prune goes on without the damaged ones, too
	for _, img := range before {
		known[img.ID.String()] = true
	}
	lines, freed, err := o.pruner().Unused(r.Context(), all, filter)
	if err != nil {
		return err
	}
	s.removedEvents(known, lines)
	report := imagetypes.PruneReport{SpaceReclaimed: uint64(freed)}
	for _, l := range lines {
		report.ImagesDeleted = append(report.ImagesDeleted, imagetypes.DeleteResponse{Untagged: l.Untagged, Deleted: l.Deleted})
	}
	s.events.publish(events.ImageEventType, events.ActionPrune, "", map[string]string{"reclaimed": decimal(freed)})
	return writeJSON(w, report)
}
