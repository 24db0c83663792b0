package buildcmd

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"

	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/command/commandtest"
	"github.com/micabuild/mica/internal/store"
)

// parseBuild reads the flags of a build of the working directory.
func parseBuild(t *testing.T, args ...string) (*buildspec.Spec, error) {
	t.Helper()
	var f buildFlags
	fl := pflag.NewFlagSet("build", pflag.ContinueOnError)
	f.add(fl)
	f.addHidden(fl)
	if err := fl.Parse(args); err != nil {
		t.Fatal(err)
	}
	return f.spec(".")
}

func TestBuildSpec(t *testing.T) {
	t.Setenv("FROM_ENV", "e")
	memory := int64(1 << 20)
	lazy := buildspec.Output{Type: buildspec.OutputImage, Lazy: true}
	for name, c := range map[string]struct {
		args []string
		want func(s *buildspec.Spec) // changes what a build without flags is
	}{
		"nothing":    {want: func(*buildspec.Spec) {}},
		"Dockerfile": {[]string{"-f", "D", "--target", "t"}, func(s *buildspec.Spec) { s.Dockerfile, s.Target = "D", "t" }},
		"tags":       {[]string{"-t", "a", "--tag=b"}, func(s *buildspec.Spec) { s.Tags = []string{"a", "b"} }},
		"arguments": {[]string{"--build-arg", "A=1", "--build-arg", "FROM_ENV", "--build-arg", "NOT_SET_ANYWHERE", "--label", "l"}, func(s *buildspec.Spec) {
			s.BuildArgs, s.Labels = map[string]string{"A": "1", "FROM_ENV": "e"}, map[string]string{"l": ""}
		}},
		"cache": {[]string{"--no-cache", "--no-cache-filter", "a,b", "--pull"}, func(s *buildspec.Spec) {
			s.NoCache, s.NoCacheFilter, s.Pull = true, []string{"a", "b"}, true
		}},
		"push": {[]string{"--push"}, func(s *buildspec.Spec) { s.Outputs[0].Push = true }},
		"load": {[]string{"--load"}, func(s *buildspec.Spec) { s.Outputs[0].Lazy = false }},
		"load beside another": {[]string{"-o", "type=cacheonly", "--load"}, func(s *buildspec.Spec) {
			s.Outputs = []buildspec.Output{{Type: buildspec.OutputNone, Lazy: true, Form: buildspec.Form{Annotations: map[string]string{}}}, {Type: buildspec.OutputImage}}
		}},
		"annotation": {[]string{"--annotation", "a=b"}, func(s *buildspec.Spec) { s.Outputs[0].Form.Annotations = map[string]string{"annotation.a": "b"} }},
		"limits": {[]string{"-m", "1m", "--resource", "cpuset-cpus=0", "--shm-size", "2m", "--ulimit", "nofile=1:2", "--cgroup-parent", "/p"}, func(s *buildspec.Spec) {
			s.Limits, s.ShmSize, s.Ulimits, s.CgroupParent = buildspec.Limits{Memory: &memory, CPUs: "0"}, 2<<20, []string{"nofile=1:2"}, "/p"
		}},
		"host": {[]string{"--network", "host", "--add-host", "h:1.2.3.4", "--host-certs", "--proxy-network", "--allow", "network.host", "--allow", "buildx.local.delete"}, func(s *buildspec.Spec) {
			s.Network, s.Hosts, s.HostCerts, s.ProxyNetwork = "host", []buildspec.Host{{Name: "h", Addresses: []string{"1.2.3.4"}}}, true, true
			s.Allow, s.AllowDelete = []string{"network.host"}, true
		}},
		"platforms": {[]string{"--platform", "linux/amd64,linux/arm64"}, func(s *buildspec.Spec) {
			s.Platforms = []ocispec.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}
		}},
		"contexts": {[]string{"--build-context", "a=docker-image://b"}, func(s *buildspec.Spec) { s.Contexts = map[string]string{"a": "docker-image://b"} }},
		"secrets": {[]string{"--secret", "id=a,src=f", "--ssh", "default"}, func(s *buildspec.Spec) {
			s.Secrets, s.SSH = []buildspec.Secret{{ID: "a", Src: "f"}}, []buildspec.SSH{{ID: "default"}}
		}},
		"attestations": {[]string{"--sbom=true", "--attest", "type=sbom,generator=g", "--provenance", "mode=max"}, func(s *buildspec.Spec) { s.Attests = buildspec.Attests{"sbom": {}, "provenance": {"mode": "max"}} }},
		"check":        {[]string{"--check"}, func(s *buildspec.Spec) { s.Call.Name = "lint" }},
		"call":         {[]string{"--call", "outline,format=json"}, func(s *buildspec.Spec) { s.Call = buildspec.Call{Name: "outline", JSON: true} }},
		"print":        {[]string{"--print", "targets"}, func(s *buildspec.Spec) { s.Call.Name = "targets" }},
	} {
		t.Run(name, func(t *testing.T) {
			want := &buildspec.Spec{
				Path: ".", Network: "default", BuildArgs: map[string]string{}, Labels: map[string]string{}, Contexts: map[string]string{},
				Attests: buildspec.Attests{}, Outputs: []buildspec.Output{lazy},
			}
			c.want(want)
			got, err := parseBuild(t, c.args...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestAddEnvironment: variables of the environment and docker's proxies become arguments, unless these are given.
func TestAddEnvironment(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "7")
	t.Setenv("DOCKER_DEFAULT_PLATFORM", "linux/arm64")
	app := &command.App{Docker: &configfile.ConfigFile{Proxies: map[string]configfile.ProxyConfig{"default": {HTTPProxy: "http://p"}}}}
	for name, c := range map[string]struct {
		args []string
		arg  map[string]string
		arch string
		err  string
	}{
		"environment": {arg: map[string]string{"SOURCE_DATE_EPOCH": "7", "HTTP_PROXY": "http://p", "http_proxy": "http://p"}, arch: "arm64"},
		"given": {
			args: []string{"--build-arg", "SOURCE_DATE_EPOCH=1", "--build-arg", "HTTP_PROXY=x", "--platform", "linux/amd64"},
			arg:  map[string]string{"SOURCE_DATE_EPOCH": "1", "HTTP_PROXY": "x", "http_proxy": "http://p"}, arch: "amd64",
		},
	} {
		t.Run(name, func(t *testing.T) {
			spec, err := parseBuild(t, c.args...)
			if err != nil {
				t.Fatal(err)
			}
			if err := addEnvironment(app, spec); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.arg, spec.BuildArgs); diff != "" {
				t.Error(diff)
			}
			if len(spec.Platforms) != 1 || spec.Platforms[0].Architecture != c.arch {
				t.Errorf("platforms %v", spec.Platforms)
			}
		})
	}
	spec, err := parseBuild(t, "--build-arg", "BUILDKIT_INLINE_CACHE=1")
	if err == nil {
		err = addEnvironment(app, spec)
	}
	if err != nil || !spec.InlineCache() {
		t.Errorf("inline cache: %v, %v", spec.CacheTo, err)
	}
	t.Setenv("DOCKER_DEFAULT_PLATFORM", "a/b/c/d")
	if err := addEnvironment(app, &buildspec.Spec{BuildArgs: map[string]string{}}); !strings.HasPrefix(commandtest.Text(err), `invalid platform "a/b/c/d"`) {
		t.Errorf("%v", err)
	}
}

func TestCheckContextsAndOutputs(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.WriteFile("file", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		err  string
		said string
	}{
		"fine":              {args: []string{"--build-context", "a=.", "--build-context", "b=https://h/x", "-o", "out", "-o", "type=oci,dest=x"}},
		"context, missing":  {args: []string{"--build-context", "a=no"}, err: "failed to get build context a: stat no: no such file or directory"},
		"context, a file":   {args: []string{"--build-context", "a=file"}, err: "failed to get build context a: file is not a directory"},
		"output, missing":   {args: []string{"-o", "type=tar,dest=no/x"}, err: "destination no: no such directory"},
		"output, in a file": {args: []string{"-o", "type=tar,dest=file/x"}, err: "destination file: no such directory"},
		"attribute":         {args: []string{"-o", "type=image,title=x"}, said: "WARNING: output type image has no attribute \"title\": it is not used\n"},
		"delete below":      {args: []string{"-o", "type=local,dest=out,mode=delete"}},
		"delete outside": {
			args: []string{"-o", "type=local,dest=..,mode=delete"},
			err:  "output to .. with mode=delete removes files outside of the working directory: pass --allow buildx.local.delete to permit it",
		},
		"delete here": {
			args: []string{"-o", "type=local,dest=.,mode=delete"},
			err:  "output to . with mode=delete removes files outside of the working directory: pass --allow buildx.local.delete to permit it",
		},
		"delete, allowed": {args: []string{"-o", "type=local,dest=..,mode=delete", "--allow", "buildx.local.delete"}},
	} {
		t.Run(name, func(t *testing.T) {
			stderr, said := commandtest.Output(t)
			app := &command.App{Stderr: stderr}
			spec, err := parseBuild(t, c.args...)
			if err != nil {
				t.Fatal(err)
			}
			if err = checkContexts(spec.Contexts); err == nil {
				err = checkOutputs(app, spec)
			}
			if commandtest.Text(err) != c.err || said() != c.said {
				t.Errorf("%v, %q; want %q, %q", err, said(), c.err, c.said)
			}
		})
	}
}

func TestOpenSecrets(t *testing.T) {
	t.Setenv("SECRET_ENV", "value")
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	grown := filepath.Join(t.TempDir(), "grown")
	if err := os.WriteFile(grown, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	get, err := openSecrets([]buildspec.Secret{{ID: "a", Src: file}, {ID: "b", Env: "SECRET_ENV"}, {ID: "grown", Src: grown}})
	if err == nil {
		err = os.WriteFile(grown, make([]byte, 600<<10), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]struct{ value, err string }{
		"a": {value: "text"}, "b": {value: "value"}, "c": {err: "file does not exist"},
		"grown": {err: "it has 614400 bytes: a secret has at most 512000"},
	} {
		got, err := get(t.Context(), id)
		if string(got) != want.value || commandtest.Text(err) != want.err {
			t.Errorf("%s: %q, %v; want %q, %q", id, got, err, want.value, want.err)
		}
	}
	if _, err := openSecrets([]buildspec.Secret{{Src: file}}); !strings.HasPrefix(commandtest.Text(err), "secret: ") {
		t.Errorf("without an ID: %v", err)
	}
}

func TestOpenContext(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	tar := make([]byte, 1024)
	copy(tar[257:], "ustar")
	for name, data := range map[string][]byte{"Dockerfile": []byte("FROM scratch"), "context.tar": tar, "text": []byte("text")} {
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	inline := func(c builder.Context, text string) builder.Context {
		return builder.InlineDockerfile{Context: c, Text: []byte(text)}
	}
	spooled := builder.ArchiveContext{} // with a directory of its own
	for name, c := range map[string]struct {
		spec  buildspec.Spec
		stdin string
		want  builder.Context
		err   string
	}{
		"directory":              {spec: buildspec.Spec{Path: "."}, want: builder.DirContext{Dir: "."}},
		"Dockerfile":             {spec: buildspec.Spec{Path: ".", Dockerfile: "text"}, want: builder.DirContext{Dir: ".", Dockerfile: "text"}},
		"Dockerfile on stdin":    {spec: buildspec.Spec{Path: ".", Dockerfile: "-"}, stdin: "FROM x", want: inline(builder.DirContext{Dir: "."}, "FROM x")},
		"inline":                 {spec: buildspec.Spec{Path: ".", Inline: []byte("FROM y")}, want: inline(builder.DirContext{Dir: "."}, "FROM y")},
		"archive":                {spec: buildspec.Spec{Path: "context.tar", Dockerfile: "D"}, want: builder.ArchiveContext{Dockerfile: "D"}},
		"archive, inline":        {spec: buildspec.Spec{Path: "context.tar", Inline: []byte("FROM y")}, want: inline(spooled, "FROM y")},
		"archive on stdin":       {spec: buildspec.Spec{Path: "-"}, stdin: string(tar), want: spooled},
		"text on stdin":          {spec: buildspec.Spec{Path: "-"}, stdin: "FROM z", want: inline(builder.EmptyContext{}, "FROM z")},
		"URL":                    {spec: buildspec.Spec{Path: "https://h/x.git", Dockerfile: "D"}, want: builder.RemoteContext{URL: "https://h/x.git", Dockerfile: "D"}},
		"URL, host's Dockerfile": {spec: buildspec.Spec{Path: "https://h/x.git", Dockerfile: dir + "/Dockerfile"}, want: inline(builder.RemoteContext{URL: "https://h/x.git"}, "FROM scratch")},
		"missing":                {spec: buildspec.Spec{Path: "no"}, err: `unable to prepare context: path "no" not found`},
		"a file":                 {spec: buildspec.Spec{Path: "text"}, err: "unable to prepare context: text is neither a directory nor an archive"},
		"stdin twice":            {spec: buildspec.Spec{Path: "-", Dockerfile: "-"}, err: "invalid argument: can't use stdin for both build context and dockerfile"},
		"Dockerfile twice":       {spec: buildspec.Spec{Path: "-", Dockerfile: "D"}, stdin: "FROM z", err: "ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles"},
		"empty stdin":            {spec: buildspec.Spec{Path: "-"}, err: "read Dockerfile from stdin: the text is empty"},
		"long stdin":             {spec: buildspec.Spec{Path: "-"}, stdin: strings.Repeat("#\n", 2<<20), err: "read Dockerfile from stdin: larger than 2097152 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			app := &command.App{Stdin: io.NopCloser(strings.NewReader(c.stdin)), Store: s}
			got, cleanup, err := openContext(t.Context(), app, &c.spec)
			if commandtest.Text(err) != c.err {
				t.Fatalf("%v, want %q", err, c.err)
			}
			if err != nil {
				return
			}
			if diff := cmp.Diff(c.want, withoutSpool(got)); diff != "" {
				t.Error(diff)
			}
			if err := cleanup(); err != nil {
				t.Error(err)
			}
		})
	}
}

// withoutSpool is a context without the temporary directory of its archive.
func withoutSpool(c builder.Context) builder.Context {
	switch c := c.(type) {
	case builder.ArchiveContext:
		c.Dir = ""
		return c
	case builder.InlineDockerfile:
		c.Context = withoutSpool(c.Context)
		return c
	}
	return c
}

// TestCheckOn: what only this host can give to steps is refused for steps that run elsewhere.
func TestCheckOn(t *testing.T) {
	t.Parallel()
	for flag, spec := range map[string]*buildspec.Spec{"--host-certs": {HostCerts: true}, "--proxy-network": {ProxyNetwork: true}} {
		if err := checkOn(spec, nil); err != nil {
			t.Errorf("%s here: %v", flag, err)
		}
		spec.On = &buildspec.On{}
		if err := checkOn(spec, nil); err == nil || !strings.HasPrefix(err.Error(), flag+" cannot be used with --on") {
			t.Errorf("%s elsewhere: %v", flag, err)
		}
	}
}
