package containers

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	apinetwork "github.com/moby/moby/api/types/network"
)

func TestMerge(t *testing.T) {
	t.Parallel()
	var image dockerspec.DockerOCIImageConfig
	image.Env, image.Entrypoint, image.Cmd, image.User, image.WorkingDir = []string{"A=1", "B=2"}, []string{"e"}, []string{"c"}, "u", "/w"
	image.Labels, image.ExposedPorts, image.Volumes = map[string]string{"k": "image", "l": "image"}, map[string]struct{}{"80/tcp": {}}, map[string]struct{}{"/v": {}}
	for name, c := range map[string]struct {
		given      container.Config
		entrypoint []string
		cmd        []string
	}{
		"the image's":        {container.Config{}, []string{"e"}, []string{"c"}},
		"another command":    {container.Config{Cmd: []string{"x"}}, []string{"e"}, []string{"x"}},
		"another entrypoint": {container.Config{Entrypoint: []string{"x"}}, []string{"x"}, nil},
		"no entrypoint":      {container.Config{Entrypoint: []string{""}, Cmd: []string{"x"}}, nil, []string{"x"}},
	} {
		merge(&c.given, image)
		if !slices.Equal(c.given.Entrypoint, c.entrypoint) || !slices.Equal(c.given.Cmd, c.cmd) {
			t.Errorf("%s: %v %v", name, c.given.Entrypoint, c.given.Cmd)
		}
	}
	c := container.Config{Env: []string{"B=3", "C"}, User: "me", Labels: map[string]string{"k": "own"}}
	merge(&c, image)
	if diff := cmp.Diff([]string{"B=3", "C", "A=1"}, c.Env); diff != "" {
		t.Error(diff)
	}
	_, exposed := c.ExposedPorts[apinetwork.MustParsePort("80/tcp")]
	if _, volume := c.Volumes["/v"]; c.User != "me" || c.WorkingDir != "/w" || c.Labels["k"] != "own" || c.Labels["l"] != "image" || !exposed || !volume || image.Labels["k"] != "image" {
		t.Errorf("%+v", c)
	}
}

func TestPublished(t *testing.T) {
	t.Parallel()
	port := apinetwork.MustParsePort
	c := &Container{
		config: &container.Config{ExposedPorts: apinetwork.PortSet{port("90/tcp"): {}}},
		host: &container.HostConfig{PublishAllPorts: true, PortBindings: apinetwork.PortMap{
			port("80/tcp"): {{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: "8080"}, {HostIP: netip.MustParseAddr("::1")}},
			port("53/udp"): {{HostPort: "5300-5310"}, {}},
		}},
	}
	list, err := c.published()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range list {
		got = append(got, strings.Join([]string{p.String(), p.HostIP}, " "))
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{"53/udp ", "53/udp ", "80/tcp 127.0.0.1", "80/tcp ::1", "90/tcp "}, got); diff != "" {
		t.Error(diff)
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	if got := command([]string{"sh", "-c", "a b"}); got != "sh -c 'a b'" {
		t.Error(got)
	}
	if got := command(nil); got != "" {
		t.Error(got)
	}
}

func TestParsePS(t *testing.T) {
	t.Parallel()
	top, err := parsePS("UID PID CMD\nroot 7 sleep 1 2\nroot 8 sh\n", []int{7})
	if err != nil || cmp.Diff([][]string{{"root", "7", "sleep 1 2"}}, top.Processes) != "" {
		t.Errorf("%+v, %v", top, err)
	}
	if _, err := parsePS("UID CMD\nroot sh\n", []int{7}); err == nil {
		t.Error("no error without PID")
	}
}

// TestCheckPS: no column but that of the IDs of processes has their title.
func TestCheckPS(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"-ef": "", "-o pid=x,comm": "", "-eo pid=PID,args": "", "-eopid=PID": "", "-o comm,pid=PID": "", "--format=pid=PID": "", "-o comm=x": "",
		"-eo uid=PID -o args": "uid=PID",
		"-ouid=PID":           "-ouid=PID",
		"o ppid=PID":          "ppid=PID",
		"--format=uid=PID":    "uid=PID",
		"-o pid,ppid=PID":     "pid,ppid=PID",
	} {
		if want != "" {
			want = fmt.Sprintf("specifying %q is not allowed", want)
		}
		got := ""
		if err := checkPS(strings.Fields(args)); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %q, want %q", args, got, want)
		}
	}
}

// Names that are given by the manager are valid and differ.
func TestNames(t *testing.T) {
	t.Parallel()
	m := NewManager(Options{Root: t.TempDir()})
	for range maxContainers {
		if err := m.reserve(&Container{ID: newID(), m: m}, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.reserve(&Container{ID: newID(), m: m}, ""); err == nil || !strings.Contains(err.Error(), "which is the limit") {
		t.Errorf("one too many: %v", err)
	}
	if len(m.names) != maxContainers {
		t.Errorf("%d names", len(m.names))
	}
	if _, err := m.Find(""); err == nil {
		t.Error("no name finds a container")
	}
}

// TestValidNames: the grammar of names, and of aliases in files of hosts, for which an underscore may be the first.
func TestValidNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][2]bool{
		"a": {true, true}, "Z9_.-": {true, true}, "0": {true, true}, "a.b-c_d": {true, true}, "_a": {false, true},
		"": {}, ".a": {}, "-a": {}, "a b": {}, "a/b": {}, "container:a": {}, "a\n": {}, "\u00e9": {}, "a\u00e9": {}, "a@": {}, "a[": {}, "a`": {}, "a{": {}, "a\x00": {},
	} {
		if got := [2]bool{validName(name), validAlias(name)}; got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}
