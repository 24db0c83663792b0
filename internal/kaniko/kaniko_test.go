package kaniko

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"

	"github.com/micabuild/mica/internal/registry"
)

// parse reads flags, with variables of the environment as NAME=VALUE.
func parse(t *testing.T, env []string, args ...string) (*Options, error) {
	t.Helper()
	o := New(func(name string) (string, bool) {
		for _, e := range env {
			if n, v, _ := strings.Cut(e, "="); n == name {
				return v, true
			}
		}
		return "", false
	})
	fl := pflag.NewFlagSet("executor", pflag.ContinueOnError)
	o.AddFlags(fl)
	if err := fl.Parse(args); err != nil {
		return o, err
	}
	return o, o.Finish()
}

func TestArguments(t *testing.T) {
	t.Parallel()
	common := []string{"--file", "/D", "--pull", "--progress", "plain"}
	app := append(slices.Clone(common), "--tag", "h.example/app:1")
	push := []string{"--output", "type=registry,compression=gzip"}
	for name, test := range map[string]struct {
		flags, env []string
		want       []string
	}{
		"push":           {flags: []string{"-d", "h.example/app:1"}, want: slices.Concat(app, []string{"--no-cache"}, push)},
		"no push":        {flags: []string{"--no-push"}, want: slices.Concat(common, []string{"--no-cache", "--output", "type=cacheonly"})},
		"KANIKO_NO_PUSH": {env: []string{"KANIKO_NO_PUSH=true"}, want: slices.Concat(common, []string{"--no-cache", "--output", "type=cacheonly"})},
		"digest alone": {
			flags: []string{"--no-push", "--digest-file=d"},
			want:  slices.Concat(common, []string{"--no-cache", "--output", "type=oci,dest=/dev/null,compression=gzip"}),
		},
		"several destinations": {
			flags: []string{"--destination=h.example/app:1", "--destination", "g/b"},
			want:  slices.Concat(app, []string{"--tag", "g/b", "--no-cache"}, push),
		},
		"cache": {
			flags: []string{"-d", "h.example/app:1", "--cache"},
			want: slices.Concat(app, []string{"--cache-from", "type=registry,mode=steps,ref=h.example/app/cache",
				"--cache-to", "type=registry,mode=steps,ref=h.example/app/cache,compression=gzip,ignore-error=true"}, push),
		},
		"cache that is read": {
			flags: []string{"-d", "h.example/app:1", "--cache=true", "--cache-repo=h/c", "--no-push-cache", "--cache-copy-layers"},
			want:  slices.Concat(app, []string{"--cache-from", "type=registry,mode=steps,ref=h/c"}, push),
		},
		"cache in a directory": {
			flags: []string{"-d", "h.example/app:1", "--cache=true", "--cache-repo=oci:/c,d"},
			want:  slices.Concat(app, []string{"--cache-from", `type=local,"src=/c,d"`, "--cache-to", `type=local,mode=max,"dest=/c,d"`}, push),
		},
		"RUN is not cached": {
			flags: []string{"-d", "h.example/app:1", "--cache=true", "--cache-run-layers=false"}, want: slices.Concat(app, []string{"--no-cache"}, push),
		},
		"files": {
			flags: []string{"--no-push", "--tar-path=t", "--oci-layout-path=l"},
			want: slices.Concat(common, []string{"--no-cache", "--output", "type=oci,tar=false,dest=l,compression=gzip",
				"--output", "type=docker,dest=t,name=docker.io/unset-repo/unset-image-name:latest,compression=gzip"}),
		},
		"form": {
			flags: []string{"-d", "h.example/app:1", "--compression=zstd", "--compression-level=3", "--reproducible", "--image-format=oci", "--annotation=a=b,c"},
			want: slices.Concat(app, []string{"--no-cache", "--output",
				"type=registry,compression=zstd,force-compression=true,compression-level=3,oci-mediatypes=true,rewrite-timestamp=true,source-date-epoch=0",
				"--annotation", "manifest:a=b,c"}),
		},
		"values": {
			flags: []string{"-d", "h.example/app:1", "--build-arg", "A=1,2", "--build-arg=B", "--build-arg=C", "--label", "l=m", "--secret=id=s,env=S", "--target=t", "--customPlatform=linux/arm64"},
			env:   []string{"B=b"},
			want: slices.Concat(app, []string{"--build-arg", "A=1,2", "--build-arg", "B=b", "--build-arg", "C=", "--label", "l=m", "--secret", "id=s,env=S",
				"--target", "t", "--platform", "linux/arm64", "--no-cache"}, push),
		},
		"without effect": {
			flags: []string{"-d", "h.example/app:1", "--force", "--cleanup", "--use-new-run", "--snapshot-mode=redo", "--single-snapshot", "--skip-unused-stages", "--ignore-path=/x",
				"--whitelist-var-run=false", "--push-retry=3", "--image-download-retry", "2", "--compressed-caching=false", "--log-timestamp=true", "--cache-ttl=6h",
				"--cache-dir=/c", "--materialize", "--preserve-context", "--initial-fs-unpacked", "--skip-push-permission-check", "--credential-helpers="},
			want: slices.Concat(app, []string{"--no-cache"}, push),
		},
		"plan": {flags: []string{"-d", "h.example/app:1", "--dryrun"}, want: append(slices.Clone(app), "--no-cache", "--explain")},
	} {
		o, err := parse(t, test.env, test.flags...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(append(test.want, "/ctx"), o.Arguments("/ctx", "/D")); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	for flags, want := range map[string]string{"-v=debug": "plain", "--verbosity=error": "quiet", "--log-format=json": "rawjson", "--log-format=text": "plain"} {
		o, err := parse(t, nil, "--no-push", flags)
		if err != nil || o.progress() != want {
			t.Errorf("%s: %s, %v", flags, o.progress(), err)
		}
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	for flags, want := range map[string]string{
		"":                                                   "you must provide --destination, or use --no-push",
		"--no-push --cache":                                  "specify cache repo with --cache-repo",
		"--no-push --context=":                               "path to the build context",
		"-d UPPER/":                                          "getting tag for destination",
		"--unknown":                                          "unknown flag: --unknown",
		"--no-push --snapshot-mode=x":                        "must be one of full, redo, time",
		"--no-push --log-format=xml":                         "must be one of text, color, json",
		"--no-push --verbosity=loud":                         "must be one of",
		"--no-push --compression=xz":                         "must be one of gzip, zstd",
		"--no-push --annotation=x":                           "expect key=value",
		"--no-push --registry-map=x":                         "expect key=value",
		"--no-push --registry-client-cert=h=c":               "expect registry=certificate,key",
		"--no-push --git=branch":                             "invalid git flag",
		"--no-push --git=single-branch=x":                    "invalid syntax",
		"--no-push --cache-ttl=1":                            "missing unit",
		"--no-push --image-name-with-digest-file=f":          "you must provide --destination",
		"--no-push --image-name-tag-with-digest-file=f":      "you must provide --destination",
		"--no-push --compression=zstd --tar-path=f":          "--oci-layout-path",
		"--no-push --compression=zstd --image-format=docker": "--image-format=oci",
		"--no-push --image-format=oci --tar-path=f":          "--oci-layout-path",
	} {
		if _, err := parse(t, nil, strings.Fields(flags)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", flags, err)
		}
	}
	for variable, want := range map[string]string{"KANIKO_NO_PUSH=x": "invalid value", "KANIKO_REGISTRY_MAP=x": "expect key=value"} {
		if _, err := parse(t, []string{variable}, "--no-push"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", variable, err)
		}
	}
}

func TestSource(t *testing.T) {
	t.Parallel()
	const sha = "0123456789012345678901234567890123456789"
	for name, test := range map[string]struct {
		flags, env []string
		want       Source
		fails      string
	}{
		"default":        {want: Source{Kind: Directory, Place: "/workspace/"}},
		"directory":      {flags: []string{"-c", "ctx"}, want: Source{Kind: Directory, Place: "ctx"}},
		"dir://":         {flags: []string{"--context=dir:///ctx"}, want: Source{Kind: Directory, Place: "/ctx"}},
		"tar://":         {flags: []string{"--context=tar:///c.tgz"}, want: Source{Kind: Archive, Place: "/c.tgz"}},
		"tar://stdin":    {flags: []string{"--context=tar://stdin"}, want: Source{Kind: Stdin}},
		"https://":       {flags: []string{"--context=https://h/c.tgz"}, want: Source{Kind: Download, Place: "https://h/c.tgz"}},
		"signed Azure":   {flags: []string{"--context=https://a.blob.core.windows.net/c?sig=x"}, want: Source{Kind: Download, Place: "https://a.blob.core.windows.net/c?sig=x"}},
		"Azure":          {flags: []string{"--context=https://a.blob.core.windows.net/c"}, fails: "Azure"},
		"s3://":          {flags: []string{"--context=s3://b/c"}, fails: "mica does not read buckets"},
		"bucket":         {flags: []string{"--bucket=b"}, fails: "gs://b"},
		"other":          {flags: []string{"--context=ftp://b"}, fails: "unknown build context prefix"},
		"git":            {flags: []string{"--context=git://h/r"}, want: Source{Kind: Repository, Place: "https://h/r"}},
		"git, ref":       {flags: []string{"--context=git://h/r.git#refs/heads/x"}, want: Source{Kind: Repository, Place: "https://h/r.git", Ref: "refs/heads/x"}},
		"git, commit":    {flags: []string{"--context=git://h/r#refs/heads/x#" + sha}, want: Source{Kind: Repository, Place: "https://h/r", Ref: sha}},
		"git, no commit": {flags: []string{"--context=git://h/r#x#y"}, fails: "not the full name of a commit"},
		"git, branch":    {flags: []string{"--context=git://h/r", "--git=branch=b", "--git", "depth=1"}, want: Source{Kind: Repository, Place: "https://h/r", Ref: "b"}},
		"git, no TLS":    {flags: []string{"--context=git://h/r", "--git=insecure-skip-tls=true"}, fails: "GIT_SSL_CAINFO"},
		"git, password": {
			flags: []string{"--context=git://h/r"}, env: []string{"GIT_USERNAME=u", "GIT_PASSWORD=p", "GIT_PULL_METHOD=http"},
			want: Source{Kind: Repository, Place: "http://h/r", Header: "Basic dTpw"},
		},
		"git, token": {
			flags: []string{"--context=git://h/r"}, env: []string{"GIT_TOKEN=t", "GIT_PASSWORD=p"},
			want: Source{Kind: Repository, Place: "https://h/r", Header: "Basic dDo="},
		},
	} {
		o, err := parse(t, test.env, append(test.flags, "--no-push")...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := o.Source()
		if got != test.want || (err == nil) != (test.fails == "") || err != nil && !strings.Contains(err.Error(), test.fails) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestAccess(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		flags, env []string
		want       registry.Access
	}{
		"none":     {},
		"insecure": {flags: []string{"--insecure", "-d=h:5000/a", "-d=app", "--cache-repo=c.example/x"}, want: registry.Access{Insecure: []string{"h:5000", "docker.io", "c.example"}}},
		"pulls":    {flags: []string{"--skip-tls-verify-pull"}, want: registry.Access{InsecureAll: true}},
		"hosts": {
			flags: []string{"--insecure-registry=a", "--skip-tls-verify-registry", "index.docker.io"},
			want:  registry.Access{Insecure: []string{"a", "docker.io"}},
		},
		"mirrors": {
			flags: []string{"--registry-mirror=m1", "--registry-mirror=https://m2/p/", "--registry-map=gcr.io=g;index.docker.io=http://m0:80/x", "--skip-default-registry-fallback"},
			env:   []string{"KANIKO_REGISTRY_MIRROR=m3", "KANIKO_REGISTRY_MAP=gcr.io=g2"},
			want: registry.Access{
				Mirrors: map[string][]string{"docker.io": {"m0:80/x", "m1", "m2/p", "m3"}, "gcr.io": {"g", "g2"}}, MirrorsOnly: true, Insecure: []string{"m0:80"},
			},
		},
		"certificates": {
			flags: []string{"--registry-certificate=h=/ca", "--registry-client-cert=h=/c,/k", "--registry-certificate=i=/i"},
			want: registry.Access{Certificates: map[string]registry.Certificates{
				"h": {Authorities: []string{"/ca"}, Certificate: "/c", Key: "/k"}, "i": {Authorities: []string{"/i"}},
			}},
		},
	} {
		o, err := parse(t, test.env, append(test.flags, "--no-push")...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(test.want, o.Access(), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	o, err := parse(t, nil, "-d=app", "-d=h:5000/x/y:2", "--single-snapshot", "--ignore-path=/a", "--target=a,b")
	if err != nil {
		t.Fatal(err)
	}
	want := []Named{{"index.docker.io/library/app", "latest"}, {"h:5000/x/y", "2"}}
	if diff := cmp.Diff(want, o.Names()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if list := o.Warnings(); len(list) != 3 {
		t.Errorf("warnings: %q", list)
	}
}

func TestImmutableTag(t *testing.T) {
	t.Parallel()
	refused := errors.New("push h/a:1: denied: The repository has enabled tag immutability")
	for flag, want := range map[string]bool{"--push-ignore-immutable-tag-errors": true, "--push-ignore-immutable-tag-errors=false": false} {
		o, err := parse(t, nil, "-d=h/a:1", flag)
		if err != nil || o.ImmutableTag(refused) != want || o.ImmutableTag(errors.New("no route")) || o.ImmutableTag(nil) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}
