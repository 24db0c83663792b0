package bake

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/micabuild/mica/internal/buildspec"
)

// Grants are permissions that a bake file cannot give itself: --allow.
type Grants struct {
	entitlements []string // network.host, security.insecure, buildx.local.delete
	ssh          bool
	reads        []string // directories; "*" for any
	writes       []string
}

// ParseGrants reads --allow: "network.host", "security.insecure", "buildx.local.delete", "ssh", "fs=PATH", "fs.read=PATH",
// "fs.write=PATH".
func ParseGrants(list []string) (*Grants, error) {
	g := &Grants{}
	for _, s := range list {
		key, value, _ := strings.Cut(s, "=")
		switch key {
		case buildspec.NetworkHost, buildspec.SecurityInsecure, buildspec.LocalDelete:
			g.add(key)
		case "ssh":
			g.ssh = true
		case "fs.read":
			g.read(value)
		case "fs.write":
			g.write(value)
		case "fs":
			g.read(value)
			g.write(value)
		case "device", "image", "image.push", "image.load":
			// They allow what mica does not have, or does not restrict.
		default:
			return nil, fmt.Errorf("unknown entitlement key %q", key)
		}
	}
	return g, nil
}

func (g *Grants) add(entitlements ...string) {
	g.entitlements = append(g.entitlements, entitlements...)
}
func (g *Grants) read(paths ...string)  { g.reads = append(g.reads, paths...) }
func (g *Grants) write(paths ...string) { g.writes = append(g.writes, paths...) }

// Add adds the grants of o.
func (g *Grants) Add(o Grants) {
	g.add(o.entitlements...)
	g.read(o.reads...)
	g.write(o.writes...)
	g.ssh = g.ssh || o.ssh
}

// AllowDirectory grants a directory, for reading and writing.
func (g *Grants) AllowDirectory(dir string) {
	g.read(dir)
	g.write(dir)
}

// AllowAllFiles grants every file and agent: BUILDX_BAKE_ENTITLEMENTS_FS=0.
func (g *Grants) AllowAllFiles() {
	g.AllowDirectory("*")
	g.ssh = true
}

// Missing returns the values of --allow that the targets need and that are not granted.
func (g *Grants) Missing(targets map[string]*Target) ([]string, error) {
	missing := map[string]bool{}
	reads, writes := map[string]bool{}, map[string]bool{}
	for _, t := range targets {
		asked := t.Entitlements
		if slices.ContainsFunc(t.Outputs, func(e Entry) bool { return e.Type == buildspec.OutputLocal && e.Attrs["mode"] == "delete" }) {
			asked = append(slices.Clone(asked), buildspec.LocalDelete)
		}
		for _, e := range asked {
			if !slices.Contains(g.entitlements, e) {
				missing[e] = true
			}
		}
		for _, s := range t.SSH {
			if len(s.Paths) == 0 && !g.ssh {
				missing["ssh"] = true
			}
		}
		for _, p := range t.reads() {
			reads[p] = true
		}
		for _, p := range t.writes() {
			writes[p] = true
		}
	}
	needed, err := outside(reads, g.reads)
	if err != nil {
		return nil, err
	}
	out := slices.Sorted(maps.Keys(missing))
	written, err := outside(writes, g.writes)
	if err != nil {
		return nil, err
	}
	for _, p := range needed {
		if slices.Contains(written, p) {
			out = append(out, "fs="+p)
			written = slices.DeleteFunc(written, func(w string) bool { return w == p })
			continue
		}
		out = append(out, "fs.read="+p)
	}
	for _, p := range written {
		out = append(out, "fs.write="+p)
	}
	return out, nil
}

// reads are the paths of the host that a target's build reads.
func (t *Target) reads() []string {
	out := slices.Concat(t.Secrets.paths(func(Secret) bool { return true }), t.SSH.paths(), t.CacheFrom.paths("src"))
	dir := *t.Context
	if IsPath(dir) {
		dir = strings.TrimPrefix(dir, "cwd://")
		out = append(out, dir)
		if t.DockerfileInline == nil && IsPath(*t.Dockerfile) {
			out = append(out, t.DockerfilePath())
		}
	}
	for _, c := range t.Contexts {
		if IsPath(c) {
			out = append(out, strings.TrimPrefix(c, "cwd://"))
		}
	}
	return out
}

// writes are the paths of the host that a target's build writes.
func (t *Target) writes() []string {
	return slices.DeleteFunc(slices.Concat(t.Outputs.paths("dest"), t.CacheTo.paths("dest")), func(p string) bool { return p == "-" })
}

// DockerfilePath is the path of the Dockerfile of a target whose context is a directory.
func (t *Target) DockerfilePath() string {
	if path, ok := strings.CutPrefix(*t.Dockerfile, "cwd://"); ok {
		return path
	}
	if filepath.IsAbs(*t.Dockerfile) {
		return *t.Dockerfile
	}
	return filepath.Join(strings.TrimPrefix(*t.Context, "cwd://"), *t.Dockerfile)
}

func entryPaths(list []Entry, attr string) (out []string) {
	for _, e := range list {
		if p := e.Attrs[attr]; p != "" && e.Type != buildspec.CacheRegistry {
			out = append(out, p)
		}
	}
	return out
}

func (o Outputs) paths(attr string) []string { return entryPaths(o, attr) }
func (c Caches) paths(attr string) []string  { return entryPaths(c, attr) }

func (s Secrets) paths(of func(Secret) bool) (out []string) {
	for _, one := range s {
		if of(one) && one.Src != "" {
			out = append(out, one.Src)
		}
	}
	return out
}

func (s SSHKeys) paths() (out []string) {
	for _, one := range s {
		out = append(out, one.Paths...)
	}
	return out
}

// outside lists the paths that are in none of the directories, without those inside another path of the list.
func outside(paths map[string]bool, directories []string) ([]string, error) {
	if slices.Contains(directories, "*") {
		return nil, nil
	}
	var allowed []string
	for _, f := range directories {
		real, rest, err := existing(f)
		if err != nil {
			return nil, err
		}
		allowed = append(allowed, filepath.Join(real, rest))
	}
	var out []string
	for p := range paths {
		real, rest, err := existing(p)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(allowed, func(f string) bool { return isInside(filepath.Join(real, rest), f) }) {
			out = append(out, real)
		}
	}
	slices.SortFunc(out, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	var least []string
	for _, p := range out {
		if !slices.ContainsFunc(least, func(f string) bool { return isInside(p, f) }) {
			least = append(least, p)
		}
	}
	slices.Sort(least)
	return least, nil
}

func isInside(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+string(filepath.Separator))
}

// existing resolves the links of the part of a path that exists; rest is the other part.
func existing(path string) (real, rest string, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return "", "", err
	}
	for {
		real, err = filepath.EvalSymlinks(path)
		if err == nil {
			return real, rest, nil
		}
		if !errors.Is(err, fs.ErrNotExist) || path == "/" {
			return "", "", fmt.Errorf("failed to evaluate path %q: %w", path, err)
		}
		rest, path = filepath.Join(filepath.Base(path), rest), filepath.Dir(path)
	}
}
