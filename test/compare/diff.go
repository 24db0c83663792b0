package compare

import (
	"archive/tar"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"
)

// Options say what two builds at different times cannot have in common.
type Options struct {
	// Fixed is before either build began: times before it come from the inputs, and must be equal. Later ones are when
	// something was made.
	Fixed time.Time
	// IgnoreTimes leaves all times of files out.
	IgnoreTimes bool
}

// DiffIndexes is Diff of all images, and of what the index says of them.
func DiffIndexes(want, got *Index, o Options) []string {
	var d []string
	if want.Several != got.Several {
		d = append(d, fmt.Sprintf("an index: %t, want %t", got.Several, want.Several))
	}
	d = append(d, diffAnnotations("index", want.Annotations, got.Annotations)...)
	d = append(d, diffAnnotations("descriptor of the root", want.Root, got.Root)...)
	for _, p := range slices.Sorted(maps.Keys(want.Images)) {
		g, ok := got.Images[p]
		if !ok {
			d = append(d, "no image for "+p)
			continue
		}
		d = append(d, diffAnnotations("descriptor of "+p, want.Descriptors[p], got.Descriptors[p])...)
		for _, what := range Diff(want.Images[p], g, o) {
			d = append(d, p+" "+what)
		}
	}
	for p := range got.Images {
		if want.Images[p] == nil {
			d = append(d, "an image for "+p)
		}
	}
	return d
}

func diffAnnotations(of string, want, got map[string]string) []string {
	if len(want) == len(got) && (len(want) == 0 || maps.Equal(want, got)) {
		return nil
	}
	return []string{fmt.Sprintf("annotations of the %s %v, want %v", of, got, want)}
}

// Diff lists how the images differ, in words; empty when they are equal.
func Diff(want, got *Image, o Options) []string {
	var d []string
	if want.Layers != got.Layers {
		d = append(d, fmt.Sprintf("%d layers, want %d", got.Layers, want.Layers))
	}
	d = append(d, diffAnnotations("manifest", want.Annotations, got.Annotations)...)
	if !slices.EqualFunc(want.Notes, got.Notes, slices.Equal) {
		d = append(d, fmt.Sprintf("annotations of the layers %v, want %v", got.Notes, want.Notes))
	}
	d = append(d, diffConfigs(want.Config, got.Config, o.Fixed)...)
	for _, p := range slices.Sorted(maps.Keys(want.Files)) {
		g, ok := got.Files[p]
		if !ok {
			d = append(d, p+": missing")
			continue
		}
		for _, what := range diffFiles(want.Files[p], g, o) {
			d = append(d, p+": "+what)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(got.Files)) {
		if _, ok := want.Files[p]; !ok {
			d = append(d, p+": not wanted")
		}
	}
	return d
}

func diffFiles(want, got *File, o Options) []string {
	var d []string
	for _, f := range []struct {
		what      string
		want, got any
	}{
		{"type", string(want.Type), string(got.Type)},
		{"mode", fmt.Sprintf("%04o", want.Mode), fmt.Sprintf("%04o", got.Mode)},
		{"owner", fmt.Sprintf("%d:%d", want.UID, want.GID), fmt.Sprintf("%d:%d", got.UID, got.GID)},
		{"size", want.Size, got.Size},
		{"content", want.Sum, got.Sum},
		{"link target", want.Link, got.Link},
		{"device", fmt.Sprintf("%d:%d", want.Major, want.Minor), fmt.Sprintf("%d:%d", got.Major, got.Minor)},
		{"xattrs", want.Xattrs, got.Xattrs},
		{"hard link", want.Same, got.Same},
	} {
		if !reflect.DeepEqual(f.want, f.got) {
			d = append(d, fmt.Sprintf("%s %v, want %v", f.what, f.got, f.want))
		}
	}
	if want.Text != got.Text {
		d = append(d, fmt.Sprintf("content:\n%s\nwant:\n%s", got.Text, want.Text))
	}
	// A directory's time changes with what is put into it.
	if o.IgnoreTimes || want.Type == tar.TypeDir {
		return d
	}
	w, g := want.ModTime, got.ModTime
	if w.Before(o.Fixed) || g.Before(o.Fixed) {
		// BuildKit writes whole seconds where a tar has room for no more.
		if !w.Equal(g) && !w.Equal(g.Truncate(time.Second)) {
			d = append(d, fmt.Sprintf("modified at %v, want %v", g.UTC(), w.UTC()))
		}
	}
	return d
}

// diffConfigs compares configs and histories. Times must be equal where they are older than the builds.
func diffConfigs(want, got map[string]any, fixed time.Time) []string {
	want, got = maps.Clone(want), maps.Clone(got)
	// DiffIDs depend on the times of what was made; the files are compared one by one.
	delete(want, "rootfs")
	delete(got, "rootfs")
	var d []string
	for _, k := range slices.Sorted(maps.Keys(want)) {
		w, g := normalize(want[k], fixed), normalize(got[k], fixed)
		if !reflect.DeepEqual(w, g) {
			d = append(d, fmt.Sprintf("config %s:\n\t     %v\n\twant %v", k, g, w))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[k]; !ok {
			d = append(d, fmt.Sprintf("config %s: not wanted: %v", k, got[k]))
		}
	}
	return d
}

// normalize replaces times that are not older than the builds.
func normalize(v any, fixed time.Time) any {
	switch v := v.(type) {
	case string:
		if at, err := time.Parse(time.RFC3339Nano, v); err == nil && !at.Before(fixed) {
			return "now"
		}
	case map[string]any:
		m := map[string]any{}
		for k, e := range v {
			m[k] = normalize(e, fixed)
		}
		return m
	case []any:
		l := make([]any, len(v))
		for i, e := range v {
			l[i] = normalize(e, fixed)
		}
		return l
	}
	return v
}
