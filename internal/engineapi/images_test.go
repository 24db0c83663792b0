package engineapi

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/client"
)

func (r *rig) names(o client.ImageListOptions) []string {
	r.t.Helper()
	got, err := r.ImageList(r.t.Context(), o)
	if err != nil {
		r.t.Fatal(err)
	}
	names := []string{}
	for _, i := range got.Items {
		names = append(names, i.RepoTags...)
	}
	slices.Sort(names)
	return names
}

func TestListImages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.image("one", "a:1", "a:2", "h.test/b:1")
	r.image("two", "c:1")
	filter := func(pairs ...string) client.ImageListOptions {
		f := client.Filters{}
		for i := 0; i < len(pairs); i += 2 {
			f.Add(pairs[i], pairs[i+1])
		}
		return client.ImageListOptions{Filters: f}
	}
	for name, c := range map[string]struct {
		o    client.ImageListOptions
		want []string
	}{
		"all":        {filter(), []string{"a:1", "a:2", "c:1", "h.test/b:1"}},
		"references": {filter("reference", "a", "reference", "c:*"), []string{"a:1", "a:2", "c:1"}},
		"label":      {filter("label", "of=two"), []string{"c:1"}},
		"dangling":   {filter("dangling", "true"), []string{}},
	} {
		if diff := cmp.Diff(c.want, r.names(c.o)); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
	for filters, says := range map[string]string{`{"x":["y"]}`: "invalid filter 'x'", "[": "invalid filter: ", `{"dangling":["maybe"]}`: "invalid filter 'dangling=[maybe]'"} {
		if resp, body := r.do(http.MethodGet, "/images/json?filters="+filters, nil); resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, says) {
			t.Errorf("%s: %s, %s", filters, resp.Status, body)
		}
	}
	// Docker's clients of long ago write lists.
	if _, body := r.do(http.MethodGet, `/v1.40/images/json?filters={"label":["of=two"]}`, nil); strings.Count(body, `"Id"`) != 1 {
		t.Error(body)
	}
}

// TestSummaries: what is counted, and what versions of the API have.
func TestSummaries(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.image("one", "a:1")
	got, err := r.ImageList(t.Context(), client.ImageListOptions{SharedSize: true, Manifests: true})
	if err != nil || len(got.Items) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	i := got.Items[0]
	if i.ID != id || i.Size != 3 || i.SharedSize != 0 || i.Containers != 0 || i.Labels["of"] != "one" || i.Descriptor == nil || len(i.Manifests) != 1 {
		t.Errorf("%+v", i)
	}
	if m := i.Manifests[0]; !m.Available || m.ID != i.Descriptor.Digest.String() || m.ImageData == nil || m.ImageData.Size.Unpacked != 3 || m.Size.Total != m.Size.Content+3 {
		t.Errorf("%+v", m)
	}
	_, body := r.do(http.MethodGet, "/v1.43/images/json", nil)
	var old []map[string]any
	if err := json.Unmarshal([]byte(body), &old); err != nil || len(old) != 1 {
		t.Fatalf("%s, %v", body, err)
	}
	if old[0]["VirtualSize"] != 3.0 || old[0]["SharedSize"] != -1.0 || old[0]["Containers"] != -1.0 || old[0]["Descriptor"] != nil {
		t.Error(body)
	}
}

func TestInspect(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.image("one", "h.test:5000/team/a:1")
	short := strings.TrimPrefix(id, "sha256:")[:12]
	for _, ref := range []string{"h.test:5000/team/a:1", id, short} {
		got, err := r.ImageInspect(t.Context(), ref)
		if err != nil || got.ID != id || got.Comment != "made for a test" || got.Config.Labels["of"] != "one" || len(got.RootFS.Layers) != 1 || got.Descriptor == nil {
			t.Errorf("%s: %+v, %v", ref, got, err)
		}
	}
	if _, err := r.ImageInspect(t.Context(), "none"); !errdefs.IsNotFound(err) || !strings.HasSuffix(err.Error(), "No such image: none:latest") {
		t.Errorf("%v", err)
	}
	if resp, body := r.do(http.MethodGet, "/images/UPPER/json", nil); resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, `"invalid reference format: repository name (library/UPPER) must be lowercase"`) {
		t.Errorf("%s, %s", resp.Status, body)
	}
	if resp, body := r.do(http.MethodGet, `/images/a/json?manifests=1&platform={"os":"linux","architecture":"arm64"}`, nil); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("%s, %s", resp.Status, body)
	}
	// A slash in a name may be escaped; older versions have fields that newer ones leave out.
	_, body := r.do(http.MethodGet, "/v1.43/images/h.test:5000%2Fteam%2Fa:1/json", nil)
	var old map[string]any
	if err := json.Unmarshal([]byte(body), &old); err != nil || old["VirtualSize"] != 3.0 || old["Parent"] != "" || old["Descriptor"] != nil {
		t.Errorf("%v: %s", err, body)
	}
	if config, _ := old["Config"].(map[string]any); config["Hostname"] != "" || config["User"] != "" {
		t.Error(body)
	}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.image("one", "a:1")
	got, err := r.ImageHistory(t.Context(), "a:1")
	if err != nil || len(got.Items) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	if h := got.Items[0]; h.ID != id || h.Size != 3 || h.Comment != "made for a test" || h.Created == 0 || !slices.Equal(h.Tags, []string{"a:1"}) {
		t.Errorf("%+v", h)
	}
	if _, err := r.ImageHistory(t.Context(), "none"); !errdefs.IsNotFound(err) {
		t.Errorf("%v", err)
	}
}

func TestTag(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.image("one", "a:1")
	for path, c := range map[string]struct {
		status int
		says   string
	}{
		"/images/a:1/tag?repo=h.test/b&tag=2":            {201, ""},
		"/images/" + id + "/tag?repo=c":                  {201, ""},
		"/images/a:1/tag?repo=d:3":                       {201, ""},
		"/images/none/tag?repo=e":                        {404, "No such image: none:latest"},
		"/images/a:1/tag":                                {400, "invalid reference format"},
		"/images/a:1/tag?repo=Upper":                     {400, "invalid reference format: repository name (library/Upper) must be lowercase"},
		"/images/a:1/tag?repo=x&tag=-":                   {400, "invalid tag format"},
		"/images/a:1/tag?repo=sha256&tag=1":              {400, "refusing to create an ambiguous tag using digest algorithm as name"},
		"/images/a:1/tag?repo=x@" + id + "&tag=":         {400, "cannot import digest reference"},
		"/images/a:1/tag?repo=" + strings.Repeat("x", 9): {201, ""},
	} {
		resp, body := r.do(http.MethodPost, path, nil)
		if resp.StatusCode != c.status || c.says != "" && body != `{"message":"`+c.says+"\"}\n" {
			t.Errorf("%s: %s, %s", path, resp.Status, body)
		}
	}
	want := []string{"a:1", "c:latest", "d:3", "h.test/b:2", "xxxxxxxxx:latest"}
	if diff := cmp.Diff(want, r.names(client.ImageListOptions{})); diff != "" {
		t.Error(diff)
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.image("one", "a:1", "a:2", "b:1")
	short := strings.TrimPrefix(id, "sha256:")[:12]
	got, err := r.ImageRemove(t.Context(), "a:1", client.ImageRemoveOptions{})
	if err != nil || len(got.Items) != 1 || got.Items[0].Untagged != "a:1" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := r.ImageRemove(t.Context(), id, client.ImageRemoveOptions{}); !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "conflict: unable to delete "+short+" (must be forced)") {
		t.Errorf("%v", err)
	}
	if got, err = r.ImageRemove(t.Context(), id, client.ImageRemoveOptions{Force: true}); err != nil || len(got.Items) != 4 || got.Items[2].Deleted != id {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := r.ImageRemove(t.Context(), id, client.ImageRemoveOptions{Force: true}); !errdefs.IsNotFound(err) {
		t.Errorf("%v", err)
	}
	if resp, body := r.do(http.MethodDelete, "/images/%20", nil); resp.StatusCode != http.StatusBadRequest || body != "{\"message\":\"image name cannot be blank\"}\n" {
		t.Errorf("%s, %s", resp.Status, body)
	}
}

func TestPruneImages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	old := r.image("one", "a:1")
	r.image("two", "a:1")
	kept := r.image("three", "b:1")
	if err := r.server.withStore(t.Context(), nil, func(*requestStore) error { // another request that goes on
		got, err := r.ImagePrune(t.Context(), client.ImagePruneOptions{})
		if err != nil || len(got.Report.ImagesDeleted) == 0 || got.Report.ImagesDeleted[0].Deleted != old {
			t.Errorf("%+v, %v", got, err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	f := client.Filters{}.Add("dangling", "false").Add("label!", "of=three")
	if got, err := r.ImagePrune(t.Context(), client.ImagePruneOptions{Filters: f}); err != nil || len(got.Report.ImagesDeleted) == 0 || got.Report.SpaceReclaimed == 0 {
		t.Errorf("%+v, %v", got, err)
	}
	got, err := r.ImageList(t.Context(), client.ImageListOptions{})
	if err != nil || len(got.Items) != 1 || got.Items[0].ID != kept {
		t.Errorf("%+v, %v", got, err)
	}
	if resp, body := r.do(http.MethodPost, `/images/prune?filters={"reference":["a"]}`, nil); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("%s, %s", resp.Status, body)
	}
}

func TestDiskUsage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.image("one", "a:1")
	got, err := r.DiskUsage(t.Context(), client.DiskUsageOptions{Images: true, BuildCache: true, Verbose: true})
	if err != nil || got.Images.TotalCount != 1 || got.Images.TotalSize != 3 || got.Images.Reclaimable != 3 || len(got.Images.Items) != 1 || got.BuildCache.TotalCount != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	for path, want := range map[string][]string{
		"/v1.51/system/df":                    {"LayersSize", "Images", "Containers", "Volumes", "BuildCache"},
		"/v1.51/system/df?type=image":         {"LayersSize", "Images"},
		"/system/df?type=build-cache":         {"BuildCache", "BuildCacheUsage"},
		"/system/df?type=volume&verbose=true": {"VolumeUsage"},
	} {
		_, body := r.do(http.MethodGet, path, nil)
		var fields map[string]any
		if err := json.Unmarshal([]byte(body), &fields); err != nil {
			t.Fatal(err)
		}
		for _, name := range want {
			if _, ok := fields[name]; !ok {
				t.Errorf("%s: no %s in %s", path, name, body)
			}
		}
		if len(fields) != len(want) {
			t.Errorf("%s: %s", path, body)
		}
	}
	if resp, _ := r.do(http.MethodGet, "/system/df?type=moon", nil); resp.StatusCode != http.StatusBadRequest {
		t.Error(resp.Status)
	}
}
