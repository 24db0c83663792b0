package buildspec

import (
	"maps"
	"testing"

	"github.com/containerd/platforms"
	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestIsRemote(t *testing.T) {
	t.Parallel()
	for context, want := range map[string]bool{
		".": false, "dir": false, "/http://x": false, "-": false, "http://h/x.git": true, "https://h/x": true, "git://h/x": true,
		"ssh://git@h/x": true, "git@h:x.git": true, "docker-image://alpine": true, "oci-layout://d": true, "ftp://h/x": false,
	} {
		if got := IsRemote(context); got != want {
			t.Errorf("%s: %t, want %t", context, got, want)
		}
	}
}

func TestParseContexts(t *testing.T) {
	t.Parallel()
	for text, c := range map[string]struct {
		want map[string]string
		err  string
	}{
		"a=dir":                            {want: map[string]string{"a": "dir"}},
		"a=b=c":                            {want: map[string]string{"a": "b=c"}},
		"alpine:latest=d":                  {want: map[string]string{"alpine": "d"}},
		"docker.io/library/alpine=d":       {want: map[string]string{"alpine": "d"}},
		"alpine:3=docker-image://alpine:4": {want: map[string]string{"alpine:3": "docker-image://alpine:4"}},
		"a":                                {err: "invalid context value: a, expected key=value"},
		"=dir":                             {err: "invalid context value: =dir, expected key=value"},
		"a=":                               {err: "invalid context value: a=, expected key=value"},
		"A=dir":                            {err: "invalid context name A: invalid reference format: repository name (library/A) must be lowercase"},
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			got, err := ParseContexts([]string{text})
			check(t, got, err, c.want, c.err)
		})
	}
}

func TestNormalizeContexts(t *testing.T) {
	t.Parallel()
	got, err := NormalizeContexts(map[string]string{"docker.io/library/a:latest": "x", "b": "y"})
	check(t, got, err, map[string]string{"a": "x", "b": "y"}, "")
	_, err = NormalizeContexts(map[string]string{"A": "x"})
	check(t, got, err, nil, "invalid context name A: invalid reference format: repository name (library/A) must be lowercase")
}

func TestParseArgsAndLabels(t *testing.T) {
	t.Parallel()
	env := map[string]string{"SET": "s", "EMPTY": ""}
	lookup := func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	}
	args := ParseArgs([]string{"A=1", "B=x=y", "C=", "SET", "EMPTY", "UNSET", "A=2"}, lookup)
	if diff := cmp.Diff(map[string]string{"A": "2", "B": "x=y", "C": "", "SET": "s", "EMPTY": ""}, args); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"a": "1", "b": "", "c": "x=y"}, ParseLabels([]string{"a=1", "b", "c=x=y"})); diff != "" {
		t.Error(diff)
	}
}

func TestParseLists(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff([]string{"a", "b", "c"}, ParseNoCacheFilter([]string{"a,b", "c"})); diff != "" {
		t.Error(diff)
	}
	entitlements, del := ParseAllow([]string{NetworkHost, LocalDelete, SecurityInsecure})
	if diff := cmp.Diff([]string{NetworkHost, SecurityInsecure}, entitlements); diff != "" || !del {
		t.Error(diff, del)
	}
	if entitlements, del = ParseAllow(nil); entitlements != nil || del {
		t.Error(entitlements, del)
	}
}

func TestParseNetwork(t *testing.T) {
	t.Parallel()
	for mode, want := range map[string]string{
		"": "", "default": "", "host": "", "none": "",
		"bridge": `network mode "bridge" is not supported: use default, host or none`,
	} {
		if got, err := ParseNetwork(mode); text(err) != want || err == nil && got != mode {
			t.Errorf("%q: %q, %v", mode, got, err)
		}
	}
}

func TestParseShmSizeAndUlimits(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]int64{"64m": 64 << 20, "1": 1, "2g": 2 << 30} {
		got, err := ParseShmSize(s)
		check(t, got, err, want, "")
	}
	_, err := ParseShmSize("big")
	check(t, 0, err, 0, "invalid value big for shm-size: invalid size: 'big'")
	got, err := ParseUlimits([]string{"nofile=1:2", "nproc=3", "nofile=4"})
	check(t, got, err, []string{"nofile=4:4", "nproc=3:3"}, "")
	got, err = ParseUlimits([]string{"nofile"})
	check(t, got, err, nil, "invalid ulimit nofile: invalid ulimit argument: nofile")
}

func TestParsePlatforms(t *testing.T) {
	t.Parallel()
	amd64, arm := ocispec.Platform{OS: "linux", Architecture: "amd64"}, ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}
	for name, c := range map[string]struct {
		list []string
		want []ocispec.Platform
		err  string
	}{
		"none":  {},
		"lists": {list: []string{"linux/amd64,linux/arm/v7", "linux/amd64"}, want: []ocispec.Platform{amd64, arm, amd64}},
		"local": {list: []string{"Local"}, want: []ocispec.Platform{platforms.DefaultSpec()}},
		"empty": {list: []string{"linux/amd64,"}, err: `invalid platform "": it has no name`},
		"parts": {list: []string{"a/b/c/d"}, err: `invalid platform "a/b/c/d": "a/b/c/d": cannot parse platform specifier: invalid argument`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := ParsePlatforms(c.list)
			check(t, got, err, c.want, c.err)
		})
	}
}

func TestParseHosts(t *testing.T) {
	t.Parallel()
	for s, c := range map[string]struct {
		want Host
		err  string
	}{
		"a:1.2.3.4":                 {want: Host{"a", []string{"1.2.3.4"}}},
		"a=1.2.3.4,::1":             {want: Host{"a", []string{"1.2.3.4", "::1"}}},
		"a:::1":                     {want: Host{"a", []string{"::1"}}},
		"a:[::1]":                   {want: Host{"a", []string{"::1"}}},
		"a:host-gateway":            {want: Host{"a", []string{HostGateway}}},
		"a":                         {err: "invalid host a: use name:address"},
		":1.2.3.4":                  {err: "invalid host :1.2.3.4: use name:address"},
		"a:":                        {err: "invalid host a:: use name:address"},
		"a:1.2.3":                   {err: `invalid host a:1.2.3: "1.2.3" is not an IP address`},
		"a=1.2.3.4,host-gateway,no": {err: `invalid host a=1.2.3.4,host-gateway,no: "no" is not an IP address`},
	} {
		t.Run(s, func(t *testing.T) {
			t.Parallel()
			got, err := ParseHosts([]string{s})
			check(t, got, err, []Host{c.want}, c.err)
		})
	}
}

func TestParseLimits(t *testing.T) {
	t.Parallel()
	n := func(n int64) *int64 { return &n }
	for name, c := range map[string]struct {
		list     []string
		want     Limits
		frontend map[string]string
		err      string
	}{
		"none": {frontend: map[string]string{}},
		"all": {
			list: []string{"memory=20m,memory-swap=-1", "cpu-quota=1000", "cpu-period=2000,cpu-shares=3", `"cpuset-cpus=0,1"`, "cpuset-mems=0"},
			want: Limits{Memory: n(20 << 20), MemorySwap: n(-1), CPUQuota: n(1000), CPUPeriod: n(2000), CPUShares: n(3), CPUs: "0,1", MemoryNodes: "0"},
			frontend: map[string]string{
				"memory": "20971520", "memswap": "-1", "cpuquota": "1000", "cpuperiod": "2000", "cpushares": "3", "cpusetcpus": "0,1", "cpusetmems": "0",
			},
		},
		"last counts": {list: []string{"memory=1", "memory=2"}, want: Limits{Memory: n(2)}, frontend: map[string]string{"memory": "2"}},
		"zero":        {list: []string{"cpu-quota=0"}, want: Limits{CPUQuota: n(0)}, frontend: map[string]string{"cpuquota": "0"}},
		"no value":    {list: []string{"memory"}, err: `invalid resource "memory": expected key=value`},
		"unit":        {list: []string{"memory=2x"}, err: `invalid resource "memory=2x": invalid suffix: 'x'`},
		"number":      {list: []string{"cpu-quota=x"}, err: `invalid resource "cpu-quota=x": strconv.ParseInt: parsing "x": invalid syntax`},
		"unknown":     {list: []string{"gpu=1"}, err: `unknown resource "gpu": use memory, memory-swap, cpu-shares, cpu-period, cpu-quota, cpuset-cpus or cpuset-mems`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseLimits(c.list)
			check(t, got, err, c.want, c.err)
			if opts := got.FrontendOptions(); c.err == "" && !maps.Equal(opts, c.frontend) {
				t.Errorf("front end gets %v, want %v", opts, c.frontend)
			}
		})
	}
}

func TestParseCall(t *testing.T) {
	t.Parallel()
	for s, c := range map[string]struct {
		want Call
		user string
		err  string
	}{
		"build":                     {},
		"check":                     {want: Call{Name: "lint"}, user: "check"},
		"lint":                      {want: Call{Name: "lint"}, user: "check"},
		"outline":                   {want: Call{Name: "outline"}, user: "outline"},
		"targets,format=json":       {want: Call{Name: "targets", JSON: true}, user: "targets"},
		"check,format=text":         {want: Call{Name: "lint"}, user: "check"},
		"check,ignorestatus=true":   {want: Call{Name: "lint", IgnoreStatus: true}, user: "check"},
		"check,ignorestatus=x":      {err: `invalid call "check,ignorestatus=x": ignorestatus is true or false`},
		"check,format=xml":          {err: `invalid call "check,format=xml": unknown field "format=xml"`},
		"check,outline":             {err: `invalid call "check,outline": unknown field "outline"`},
		"dance":                     {err: `unknown call "dance": use build, check, outline or targets`},
		"format=json":               {err: `unknown call "": use build, check, outline or targets`},
		"":                          {err: `invalid call "": EOF`},
		"build,format=json":         {want: Call{JSON: true}},
		"outline,ignorestatus=true": {want: Call{Name: "outline", IgnoreStatus: true}, user: "outline"},
	} {
		t.Run(s, func(t *testing.T) {
			t.Parallel()
			got, err := ParseCall(s)
			check(t, got, err, c.want, c.err)
			if c.err == "" && got.UserName() != c.user {
				t.Errorf("user name %q, want %q", got.UserName(), c.user)
			}
		})
	}
}

func TestParseAnnotations(t *testing.T) {
	t.Parallel()
	for s, c := range map[string]struct {
		want map[string]string
		err  string
	}{
		"a=b":                      {want: map[string]string{"annotation.a": "b"}},
		"a=b:c=d":                  {want: map[string]string{"annotation.a": "b:c=d"}},
		"index:a=b":                {want: map[string]string{"annotation-index.a": "b"}},
		"index,manifest:a=b":       {want: map[string]string{"annotation-index.a": "b", "annotation-manifest.a": "b"}},
		"manifest[linux/arm64]:a=": {want: map[string]string{"annotation-manifest[linux/arm64].a": ""}},
		"index-descriptor:a=b":     {want: map[string]string{"annotation-index-descriptor.a": "b"}},
		"a":                        {err: `invalid annotation "a", expected key=value`},
		"layer:a=b":                {err: `unknown annotation type "layer"`},
		"index[:a=b":               {err: `invalid annotation type "index[", expected type and optional platform in square brackets`},
		"index[a/b/c/d]:a=b":       {err: `invalid platform "a/b/c/d": "a/b/c/d": cannot parse platform specifier: invalid argument`},
	} {
		t.Run(s, func(t *testing.T) {
			t.Parallel()
			got, err := ParseAnnotations([]string{s})
			check(t, got, err, c.want, c.err)
		})
	}
}

func TestAnnotate(t *testing.T) {
	t.Parallel()
	outputs, err := ParseOutputs([]string{"type=oci,annotation.x=y", "out"})
	if err != nil {
		t.Fatal(err)
	}
	s := &Spec{Outputs: outputs}
	if !s.Annotate(map[string]string{"annotation.a": "b"}) {
		t.Error("an OCI layout is an image")
	}
	if diff := cmp.Diff(map[string]string{"annotation.x": "y", "annotation.a": "b"}, outputs[0].Form.Annotations); diff != "" {
		t.Error(diff)
	}
	if len(outputs[1].Form.Annotations) > 0 {
		t.Errorf("files have annotations: %v", outputs[1].Form.Annotations)
	}
	files := &Spec{Outputs: outputs[1:]}
	if files.Annotate(map[string]string{"annotation.a": "b"}) {
		t.Error("files are not an image")
	}
	shorthand := &Spec{Outputs: []Output{{Type: OutputImage}}}
	if !shorthand.Annotate(map[string]string{"annotation.a": "b"}) || shorthand.Outputs[0].Form.Annotations["annotation.a"] != "b" {
		t.Errorf("%+v", shorthand.Outputs[0])
	}
}
