package engineapi

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

// create makes a container, which is not started.
func (r *rig) create(name string, o client.ContainerCreateOptions) string {
	r.t.Helper()
	o.Name = name
	if o.Config == nil {
		o.Config = &container.Config{}
	}
	if o.Config.Image == "" {
		o.Config.Image = "app"
	}
	if len(o.Config.Cmd) == 0 {
		o.Config.Cmd = []string{"run"}
	}
	got, err := r.ContainerCreate(r.t.Context(), o)
	if err != nil {
		r.t.Fatal(err)
	}
	return got.ID
}

// listed are the names of the containers of a list.
func (r *rig) listed(o client.ContainerListOptions) (list []string) {
	r.t.Helper()
	got, err := r.ContainerList(r.t.Context(), o)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, c := range got.Items {
		list = append(list, strings.TrimPrefix(c.Names[0], "/"))
	}
	return list
}

func TestCreateContainer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	image := r.image("1", "app:latest")
	id := r.create("web", client.ContainerCreateOptions{
		Config: &container.Config{Env: []string{"A=1"}, Labels: map[string]string{"k": "v"}, ExposedPorts: network.PortSet{network.MustParsePort("80/tcp"): {}}, Tty: true},
		HostConfig: &container.HostConfig{
			Binds: []string{t.TempDir() + ":/host:ro", "data:/data"}, Tmpfs: map[string]string{"/tmp": "size=1m"},
			PortBindings: network.PortMap{network.MustParsePort("80/tcp"): {{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: "0"}}},
		},
	})
	got, err := r.ContainerInspect(t.Context(), "web", client.ContainerInspectOptions{Size: true})
	if err != nil {
		t.Fatal(err)
	}
	c := got.Container
	if c.ID != id || c.Name != "/web" || c.Image != image || c.Path != "run" || c.State.Status != container.StateCreated || c.Config.Labels["of"] != "1" ||
		c.Config.Hostname != id[:12] || c.HostConfig.NetworkMode != "bridge" || c.NetworkSettings.Networks["bridge"] == nil || c.SizeRw == nil || !c.Config.Tty {
		t.Errorf("%+v", c)
	}
	var mounts []string
	for _, m := range c.Mounts {
		mounts = append(mounts, string(m.Type)+" "+m.Name+" "+m.Destination)
	}
	if want := []string{"bind  /host", "volume data /data"}; !slices.Equal(mounts, want) {
		t.Errorf("%v, want %v", mounts, want)
	}
	wait := r.ContainerWait(t.Context(), "web", client.ContainerWaitOptions{})
	if status := <-wait.Result; status.StatusCode != 0 { // it does not run
		t.Errorf("%+v", status)
	}
	_, err = r.VolumeRemove(t.Context(), "data", client.VolumeRemoveOptions{Force: true})
	if !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "remove data: volume is in use - ["+id+"]") {
		t.Errorf("a volume in use: %v", err)
	}
	if _, err := r.ContainerRemove(t.Context(), id[:12], client.ContainerRemoveOptions{RemoveVolumes: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ContainerInspect(t.Context(), "web", client.ContainerInspectOptions{}); !errdefs.IsNotFound(err) {
		t.Errorf("removed: %v", err)
	}
	if _, err := r.VolumeRemove(t.Context(), "data", client.VolumeRemoveOptions{}); err != nil {
		t.Errorf("a named volume stays: %v", err)
	}
}

// What mica does not have is refused when a container is created, and nothing of it stays.
func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.image("1", "app:latest")
	r.create("taken", client.ContainerCreateOptions{})
	command := &container.Config{Image: "app", Cmd: []string{"run"}}
	for name, c := range map[string]struct {
		o    client.ContainerCreateOptions
		kind func(error) bool
		says string
	}{
		"no image":         {client.ContainerCreateOptions{Config: &container.Config{Image: "none", Cmd: []string{"a"}}}, errdefs.IsNotFound, "No such image: none:latest"},
		"no command":       {client.ContainerCreateOptions{Config: &container.Config{Image: "app"}}, errdefs.IsInvalidArgument, "no command specified"},
		"a taken name":     {client.ContainerCreateOptions{Config: command, Name: "taken"}, errdefs.IsConflict, `The container name "/taken" is already in use by container`},
		"an invalid name":  {client.ContainerCreateOptions{Config: command, Name: "a/b"}, errdefs.IsInvalidArgument, "Invalid container name (a/b)"},
		"a network":        {client.ContainerCreateOptions{Config: command, HostConfig: &container.HostConfig{NetworkMode: "mine"}}, errdefs.IsNotFound, "network mine not found"},
		"an endpoint":      {client.ContainerCreateOptions{Config: command, NetworkingConfig: &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{"mine": {}}}}, errdefs.IsNotFound, "network mine not found"},
		"a restart policy": {client.ContainerCreateOptions{Config: command, HostConfig: &container.HostConfig{RestartPolicy: container.RestartPolicy{Name: "always"}}}, errdefs.IsNotImplemented, "restart policies are not supported"},
		"a link":           {client.ContainerCreateOptions{Config: command, HostConfig: &container.HostConfig{Links: []string{"a:b"}}}, errdefs.IsNotImplemented, "links are not supported"},
		"a log driver":     {client.ContainerCreateOptions{Config: command, HostConfig: &container.HostConfig{LogConfig: container.LogConfig{Type: "syslog"}}}, errdefs.IsNotImplemented, "log driver syslog"},
		"a volume's name":  {client.ContainerCreateOptions{Config: command, HostConfig: &container.HostConfig{Binds: []string{"../x:/d"}}}, errdefs.IsInvalidArgument, "includes invalid characters for a local volume name"},
		"a missing source": {client.ContainerCreateOptions{Config: command, HostConfig: &container.HostConfig{Mounts: []mount.Mount{{Type: mount.TypeBind, Source: "/no/such", Target: "/d"}}}}, errdefs.IsInvalidArgument, "bind source path does not exist: /no/such"},
		"a mount twice":    {client.ContainerCreateOptions{Config: command, HostConfig: &container.HostConfig{Binds: []string{"a:/d", "b:/d"}}}, errdefs.IsInvalidArgument, "Duplicate mount point: /d"},
		"a pid namespace":  {client.ContainerCreateOptions{Config: command, HostConfig: &container.HostConfig{PidMode: "host"}}, errdefs.IsInvalidArgument, "--pid host is not possible"},
		"too little":       {client.ContainerCreateOptions{Config: command, HostConfig: &container.HostConfig{Resources: container.Resources{Memory: 1}}}, errdefs.IsInvalidArgument, "Minimum memory limit allowed is 6MB"},
	} {
		if _, err := r.ContainerCreate(t.Context(), c.o); err == nil || !c.kind(err) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %s", name, err, c.says)
		}
	}
	if got := r.listed(client.ContainerListOptions{All: true}); !slices.Equal(got, []string{"taken"}) {
		t.Errorf("%v", got)
	}
	if left, err := r.VolumeList(t.Context(), client.VolumeListOptions{}); err != nil {
		t.Fatal(err)
	} else {
		for _, v := range left.Items {
			if _, err := r.VolumeRemove(t.Context(), v.Name, client.VolumeRemoveOptions{}); err != nil {
				t.Errorf("volume %s is still held: %v", v.Name, err)
			}
		}
	}
}

func TestListContainers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.image("1", "app:latest")
	r.image("2", "other:latest")
	a := r.create("a1", client.ContainerCreateOptions{Config: &container.Config{Labels: map[string]string{"k": "1"}}})
	r.create("b2", client.ContainerCreateOptions{Config: &container.Config{Image: "other", ExposedPorts: network.PortSet{network.MustParsePort("80/tcp"): {}}}})
	r.create("c3", client.ContainerCreateOptions{HostConfig: &container.HostConfig{
		NetworkMode: "none", Binds: []string{"vol:/d"}, PortBindings: network.PortMap{network.MustParsePort("81/tcp"): {{HostPort: "0"}}},
	}})
	for text, want := range map[string][]string{
		"":                 {"c3", "b2", "a1"},
		"id=" + a[:6]:      {"a1"},
		"name=^b":          {"b2"},
		"name=/c3":         {"c3"},
		"label=k":          {"a1"},
		"label=k=2":        nil,
		"status=created":   {"c3", "b2", "a1"},
		"status=running":   nil,
		"exited=0":         nil,
		"ancestor=other":   {"b2"},
		"ancestor=missing": nil,
		"before=b2":        {"a1"},
		"since=b2":         {"c3"},
		"volume=vol":       {"c3"},
		"volume=/d":        {"c3"},
		"network=none":     {"c3"},
		"network=bridge":   {"b2", "a1"},
		"expose=80":        {"b2"},
		"publish=80-90":    {"c3"},
		"health=none":      {"c3", "b2", "a1"},
		"is-task=true":     nil,
	} {
		o := client.ContainerListOptions{All: true}
		if key, value, ok := strings.Cut(text, "="); ok {
			o.Filters = make(client.Filters).Add(key, value)
		}
		if diff := cmp.Diff(want, r.listed(o)); diff != "" {
			t.Errorf("%q:\n%s", text, diff)
		}
	}
	if got := r.listed(client.ContainerListOptions{}); got != nil {
		t.Errorf("containers that run: %v", got)
	}
	if got := r.listed(client.ContainerListOptions{Limit: 2}); !slices.Equal(got, []string{"c3", "b2"}) {
		t.Errorf("the last: %v", got)
	}
	for _, text := range []string{"nonsense=1", "status=happy", "exited=x", "before=missing", "name=[", "publish=x"} {
		key, value, _ := strings.Cut(text, "=")
		if _, err := r.ContainerList(t.Context(), client.ContainerListOptions{Filters: make(client.Filters).Add(key, value)}); err == nil {
			t.Errorf("%s: no error", text)
		}
	}
}

func TestRenameAndPrune(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.image("1", "app:latest")
	r.create("one", client.ContainerCreateOptions{Config: &container.Config{Labels: map[string]string{"keep": ""}}})
	r.create("two", client.ContainerCreateOptions{})
	if _, err := r.ContainerRename(t.Context(), "one", client.ContainerRenameOptions{NewName: "two"}); !errdefs.IsConflict(err) {
		t.Errorf("a taken name: %v", err)
	}
	if _, err := r.ContainerRename(t.Context(), "one", client.ContainerRenameOptions{NewName: "uno"}); err != nil {
		t.Fatal(err)
	}
	r.create("one", client.ContainerCreateOptions{})
	pruned, err := r.ContainerPrune(t.Context(), client.ContainerPruneOptions{Filters: make(client.Filters).Add("label!", "keep")})
	if err != nil || len(pruned.Report.ContainersDeleted) != 2 {
		t.Errorf("%+v, %v", pruned, err)
	}
	if got := r.listed(client.ContainerListOptions{All: true}); !slices.Equal(got, []string{"uno"}) {
		t.Errorf("%v", got)
	}
	// An image with containers stays.
	uno, err := r.ContainerInspect(t.Context(), "uno", client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.ImageRemove(t.Context(), "app", client.ImageRemoveOptions{Force: true})
	if !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "image is being used by stopped container "+uno.Container.ID[:12]) {
		t.Errorf("an image in use: %v", err)
	}
}

func TestVolumes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	v, err := r.VolumeCreate(t.Context(), client.VolumeCreateOptions{Name: "data", Labels: map[string]string{"k": "v"}})
	if err != nil || v.Volume.Name != "data" || v.Volume.Driver != "local" || v.Volume.Mountpoint == "" {
		t.Fatalf("%+v, %v", v, err)
	}
	anonymous, err := r.VolumeCreate(t.Context(), client.VolumeCreateOptions{})
	if err != nil || len(anonymous.Volume.Name) != 64 {
		t.Fatalf("%+v, %v", anonymous, err)
	}
	for text, want := range map[string]int{"": 2, "name=dat": 1, "label=k": 1, "label=k=x": 0, "dangling=true": 2, "dangling=false": 0, "driver=nfs": 0} {
		o := client.VolumeListOptions{}
		if key, value, ok := strings.Cut(text, "="); ok {
			o.Filters = make(client.Filters).Add(key, value)
		}
		if list, err := r.VolumeList(t.Context(), o); err != nil || len(list.Items) != want {
			t.Errorf("%q: %+v, %v", text, list, err)
		}
	}
	for name, o := range map[string]client.VolumeCreateOptions{
		"a path": {Name: "../x"}, "a driver": {Name: "x", Driver: "nfs"}, "an option": {Name: "x", DriverOpts: map[string]string{"type": "tmpfs"}},
		"a long name": {Name: strings.Repeat("x", 300)},
	} {
		if got, err := r.VolumeCreate(t.Context(), o); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
	pruned, err := r.VolumePrune(t.Context(), client.VolumePruneOptions{})
	if err != nil || !slices.Equal(pruned.Report.VolumesDeleted, []string{anonymous.Volume.Name}) {
		t.Errorf("%+v, %v", pruned, err)
	}
	if _, err := r.VolumeRemove(t.Context(), "data", client.VolumeRemoveOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := r.VolumeRemove(t.Context(), "data", client.VolumeRemoveOptions{}); !errdefs.IsNotFound(err) {
		t.Errorf("removed: %v", err)
	}
}

// TestCreateMounts: the ways to give mounts, and what is shown of them.
func TestCreateMounts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.image("1", "app:latest")
	dir := t.TempDir()
	for name, c := range map[string]struct {
		config container.Config
		host   container.HostConfig
		want   []string
	}{
		"a bind":          {container.Config{}, container.HostConfig{Binds: []string{dir + ":/d"}}, []string{"bind /d  true"}},
		"read-only":       {container.Config{}, container.HostConfig{Binds: []string{dir + ":/d:ro"}}, []string{"bind /d ro false"}},
		"a volume":        {container.Config{}, container.HostConfig{Binds: []string{"v1:/d"}}, []string{"volume /d z true"}},
		"of the image":    {container.Config{Volumes: map[string]struct{}{"/a": {}}}, container.HostConfig{}, []string{"volume /a  true"}},
		"replaced":        {container.Config{Volumes: map[string]struct{}{"/a/": {}}}, container.HostConfig{Binds: []string{"v2:/a"}}, []string{"volume /a z true"}},
		"mount of volume": {container.Config{}, container.HostConfig{Mounts: []mount.Mount{{Type: mount.TypeVolume, Source: "v3", Target: "/m", ReadOnly: true}}}, []string{"volume /m z false"}},
		"mount of bind":   {container.Config{}, container.HostConfig{Mounts: []mount.Mount{{Type: mount.TypeBind, Source: dir, Target: "/m"}}}, []string{"bind /m  true"}},
		"mount of tmpfs":  {container.Config{}, container.HostConfig{Mounts: []mount.Mount{{Type: mount.TypeTmpfs, Target: "/m"}}}, []string{"tmpfs /m  true"}},
	} {
		id := r.create("", client.ContainerCreateOptions{Config: &c.config, HostConfig: &c.host})
		got, err := r.ContainerInspect(t.Context(), id, client.ContainerInspectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var list []string
		for _, m := range got.Container.Mounts {
			list = append(list, strings.Join([]string{string(m.Type), m.Destination, m.Mode, strconv.FormatBool(m.RW)}, " "))
		}
		if diff := cmp.Diff(c.want, list); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if _, err := r.ContainerRemove(t.Context(), id, client.ContainerRemoveOptions{RemoveVolumes: true}); err != nil {
			t.Fatal(err)
		}
	}
	left, err := r.VolumeList(t.Context(), client.VolumeListOptions{})
	if err != nil || len(left.Items) != 3 {
		t.Errorf("the volumes with names stay, and those without go: %+v, %v", left, err)
	}
}

// TestContainerRequests: what is wrong or missing in requests has Docker's statuses.
func TestContainerRequests(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.image("1", "app:latest")
	id := r.create("box", client.ContainerCreateOptions{})
	for request, c := range map[string]struct {
		status int
		says   string
	}{
		"POST /containers/box/pause":                                     {501, "paused"},
		"POST /containers/box/update":                                    {501, "limits"},
		"GET /containers/box/attach/ws":                                  {501, ""},
		"POST /containers/box/stop":                                      {304, ""},
		"POST /containers/box/stop?t=x":                                  {400, "not a number of seconds"},
		"POST /containers/box/restart?t=x":                               {400, "not a number of seconds"},
		"POST /containers/box/kill?signal=NOSUCH":                        {400, "cannot kill container: box: invalid signal: NOSUCH"},
		"POST /containers/box/kill":                                      {409, "is not running"},
		"POST /containers/box/exec":                                      {400, "No exec command specified"},
		"POST /containers/box/wait?condition=x":                          {400, "invalid condition"},
		"POST /containers/box/rename?name=":                              {400, "may be empty"},
		"POST /containers/box/rename?name=box":                           {400, "same name"},
		"POST /containers/box/rename?name=a/b":                           {400, "Invalid container name"},
		"POST /containers/box/resize?h=x&w=1":                            {400, ""},
		"POST /containers/prune?filters=%7B%22x%22:%5B%22y%22%5D%7D":     {400, "invalid filter 'x'"},
		"POST /containers/prune?filters=%7B%22until%22:%5B%22y%22%5D%7D": {400, "until=y"},
		"GET /containers/json?limit=x":                                   {400, ""},
		"GET /containers/box/logs":                                       {400, ""},
		"GET /containers/box/top":                                        {409, "is not running"},
		"GET /containers/box/archive?path=":                              {400, ""},
		"PUT /containers/box/archive?path=/nosuch":                       {404, ""},
		"DELETE /containers/box?link=1":                                  {501, "links"},
		"GET /containers/" + id[:8] + "/json":                            {200, `"Name":"/box"`},
		"GET /containers/box/stats?stream=0":                             {200, `"name":"/box"`},
	} {
		method, path, _ := strings.Cut(request, " ")
		if resp, body := r.do(method, path, nil); resp.StatusCode != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s: %s, %q", request, resp.Status, body)
		}
	}
	if !r.server.HasContainers() {
		t.Error("there is a container")
	}
}

func TestTimeOf(t *testing.T) {
	t.Parallel()
	now := time.Date(2020, 5, 6, 7, 8, 9, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"10m": now.Add(-10 * time.Minute), "2020-01-02": time.Date(2020, 1, 2, 0, 0, 0, 0, time.UTC), "2020-01-02T03:04": time.Date(2020, 1, 2, 3, 4, 0, 0, time.UTC),
		"2020-01-02T03:04:05": time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC), "2020-01-02T03:04:05+01:00": time.Date(2020, 1, 2, 2, 4, 5, 0, time.UTC),
		"1577934245": time.Unix(1577934245, 0), "1577934245.5": time.Unix(1577934245, 5e8),
	} {
		if got, err := parseTime(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"yesterday", "2020-13-01", "1.2.3"} {
		if got, err := parseTime(text, now); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// TestFillVolume: an empty volume gets the files of the image, and stays the directory that other containers have mounted.
func TestFillVolume(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.image("1", "app:latest")
	if _, err := r.ImageImport(t.Context(), client.ImageImportSource{Source: bytes.NewReader(archive(t, "data/f", "text")), SourceName: "-"}, "filled:latest", client.ImageImportOptions{}); err != nil {
		t.Fatal(err)
	}
	host := &container.HostConfig{Binds: []string{"shared:/data"}}
	r.create("first", client.ContainerCreateOptions{HostConfig: host})
	v, err := r.VolumeInspect(t.Context(), "shared", client.VolumeInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dir := v.Volume.Mountpoint
	before, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	r.create("second", client.ContainerCreateOptions{Config: &container.Config{Image: "filled"}, HostConfig: host})
	after, err := os.Stat(dir)
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("the directory was replaced: %v", err)
	}
	file := filepath.Join(dir, "f")
	if data, err := os.ReadFile(file); err != nil || string(data) != "text" {
		t.Errorf("%q, %v", data, err)
	}
	if err := os.WriteFile(file, []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.create("third", client.ContainerCreateOptions{Config: &container.Config{Image: "filled"}, HostConfig: host})
	if data, err := os.ReadFile(file); err != nil || string(data) != "changed" {
		t.Errorf("a volume with files was filled: %q, %v", data, err)
	}
	if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) != 2 {
		t.Errorf("beside the files of the volume: %v, %v", left, err)
	}
}

// TestPruneVolumesDuringCreate: a volume is not removed between its making and its use.
func TestPruneVolumesDuringCreate(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.image("1", "app:latest")
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := r.VolumePrune(t.Context(), client.VolumePruneOptions{}); err != nil {
					t.Error(err)
					return
				}
			}
		}
	}()
	for range 30 {
		r.create("", client.ContainerCreateOptions{Config: &container.Config{Volumes: map[string]struct{}{"/a": {}, "/b": {}}}})
	}
	close(stop)
	<-done
}

// TestFailedCreate: a container that could not be made leaves nothing.
func TestFailedCreate(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.image("1", "app:latest")
	r.create("taken", client.ContainerCreateOptions{})
	anonymous := mount.Mount{Type: mount.TypeVolume, Target: "/m"}
	for name, o := range map[string]client.ContainerCreateOptions{
		"taken":   {Config: &container.Config{Volumes: map[string]struct{}{"/a": {}}}},
		"another": {HostConfig: &container.HostConfig{Mounts: []mount.Mount{anonymous, anonymous}}},
	} {
		o.Name = name
		if o.Config == nil {
			o.Config = &container.Config{}
		}
		o.Config.Image, o.Config.Cmd = "app", []string{"run"}
		if _, err := r.ContainerCreate(t.Context(), o); err == nil {
			t.Errorf("%s: made", name)
		}
	}
	if list, err := r.VolumeList(t.Context(), client.VolumeListOptions{}); err != nil || len(list.Items) != 0 {
		t.Errorf("left: %+v, %v", list.Items, err)
	}
	r.create("another", client.ContainerCreateOptions{})
}
