package kaniko

import (
	"encoding/csv"
	"strconv"
	"strings"

	"github.com/distribution/reference"
)

// unnamed is the name of an image in an archive without a destination, as Kaniko has it.
const unnamed = "docker.io/unset-repo/unset-image-name:latest"

// Arguments are those of `mica build` for a context that is a directory, and a Dockerfile that is a path or a URL.
func (o *Options) Arguments(dir, dockerfile string) []string {
	args := []string{"--file", dockerfile, "--pull", "--progress", o.progress()}
	for _, d := range o.Destinations {
		args = append(args, "--tag", d)
	}
	for _, f := range []struct {
		flag   string
		values []string
	}{{"--build-arg", o.BuildArgs}, {"--label", o.Labels}, {"--secret", o.Secrets}} {
		for _, v := range f.values {
			args = append(args, f.flag, v)
		}
	}
	if len(o.Targets) > 0 {
		args = append(args, "--target", o.Targets[0])
	}
	if o.Platform != "" {
		args = append(args, "--platform", o.Platform)
	}
	args = append(args, o.cacheArgs()...)
	if o.DryRun {
		return append(args, "--explain", dir)
	}
	return append(append(args, o.outputArgs()...), dir)
}

// progress is how the build is shown: by lines, as a log.
func (o *Options) progress() string {
	switch o.Verbosity {
	case "warn", "warning", "error", "fatal", "panic":
		return "quiet"
	}
	if o.LogFormat == "json" {
		return "rawjson"
	}
	return "plain"
}

// cacheArgs are the cache: a repository with a record for each step, as Kaniko's has an image for each.
func (o *Options) cacheArgs() []string {
	if !o.Cache || !o.CacheRunLayers {
		return []string{"--no-cache"}
	}
	repo := o.CacheRepo
	if repo == "" && len(o.Destinations) > 0 {
		named, err := parseName(o.Destinations[0])
		if err == nil {
			repo = named.Name() + "/cache"
		}
	}
	if repo == "" {
		return nil
	}
	from, to := [][2]string{{"type", "registry"}, {"mode", "steps"}, {"ref", repo}}, [][2]string(nil)
	if dir, ok := strings.CutPrefix(repo, "oci:"); ok {
		from, to = [][2]string{{"type", "local"}, {"src", dir}}, [][2]string{{"type", "local"}, {"mode", "max"}, {"dest", dir}}
	} else {
		to = append(o.compression(append(to, from...), false), [2]string{"ignore-error", "true"})
	}
	args := []string{"--cache-from", fields(from)}
	if o.NoPushCache {
		return args
	}
	return append(args, "--cache-to", fields(to))
}

// outputArgs are the results: each of them has its layers compressed, so that all have one digest.
func (o *Options) outputArgs() []string {
	var args []string
	add := func(attrs ...[2]string) {
		attrs = o.compression(attrs, true)
		switch o.ImageFormat {
		case "docker":
			attrs = append(attrs, [2]string{"oci-mediatypes", "false"})
		case "oci":
			attrs = append(attrs, [2]string{"oci-mediatypes", "true"})
		}
		if o.Reproducible {
			attrs = append(attrs, [2]string{"rewrite-timestamp", "true"}, [2]string{"source-date-epoch", "0"})
		}
		args = append(args, "--output", fields(attrs))
	}
	if !o.NoPush {
		add([2]string{"type", "registry"})
	}
	if o.OCILayoutPath != "" {
		add([2]string{"type", "oci"}, [2]string{"tar", "false"}, [2]string{"dest", o.OCILayoutPath})
	}
	if o.TarPath != "" {
		attrs := [][2]string{{"type", "docker"}, {"dest", o.TarPath}}
		if len(o.Destinations) == 0 {
			attrs = append(attrs, [2]string{"name", unnamed})
		}
		add(attrs...)
	}
	if len(args) == 0 && o.WantsDigest() {
		add([2]string{"type", "oci"}, [2]string{"dest", "/dev/null"})
	}
	if len(args) == 0 {
		return []string{"--output", "type=cacheonly"}
	}
	for _, a := range o.Annotations {
		args = append(args, "--annotation", "manifest:"+a)
	}
	return args
}

// compression adds the compression of layers. Those of base images change too if one is asked for.
func (o *Options) compression(attrs [][2]string, force bool) [][2]string {
	if o.Compression == "" {
		attrs = append(attrs, [2]string{"compression", "gzip"})
	} else {
		attrs = append(attrs, [2]string{"compression", o.Compression})
		if force {
			attrs = append(attrs, [2]string{"force-compression", "true"})
		}
	}
	if o.CompressionLevel > 0 {
		attrs = append(attrs, [2]string{"compression-level", strconv.Itoa(o.CompressionLevel)})
	}
	return attrs
}

// fields writes attributes as a line of CSV.
func fields(attrs [][2]string) string {
	var b strings.Builder
	w := csv.NewWriter(&b)
	record := make([]string, len(attrs))
	for i, a := range attrs {
		record[i] = a[0] + "=" + a[1]
	}
	_ = w.Write(record)
	w.Flush()
	return strings.TrimSuffix(b.String(), "\n")
}

// Named is a destination as Kaniko writes it.
type Named struct{ Repository, Tag string }

// Names are the destinations.
func (o *Options) Names() []Named {
	var names []Named
	for _, d := range o.Destinations {
		named, err := parseName(d)
		if err != nil {
			continue // Finish has refused it
		}
		host := reference.Domain(named)
		if host == "docker.io" {
			host = "index.docker.io"
		}
		n := Named{Repository: host + "/" + reference.Path(named)}
		if t, ok := named.(reference.Tagged); ok {
			n.Tag = t.Tag()
		}
		names = append(names, n)
	}
	return names
}

// ImmutableTag reports whether an error of a push is that of a registry which keeps its tags, and is to be ignored.
func (o *Options) ImmutableTag(err error) bool {
	if err == nil || !o.PushIgnoreImmutableTagErrors {
		return false
	}
	for _, words := range []string{"The repository has enabled tag immutability", "cannot be overwritten because the repository is immutable"} {
		if strings.Contains(err.Error(), words) {
			return true
		}
	}
	return false
}
