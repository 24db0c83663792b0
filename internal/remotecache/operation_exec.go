package remotecache

import (
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// describeExec describes a process without the parts that depend on the host (solver/llbsolver/ops/exec.go, CacheMap).
func describeExec(exec *pb.ExecOp, platform *pb.Platform, inputs int) (*operation, error) {
	deps, err := mountDeps(exec.Mounts, inputs)
	if err != nil {
		return nil, err
	}
	plain := exec.CloneVT()
	for _, h := range plain.GetMeta().GetExtraHosts() {
		h.IP = ""
	}
	outputs := 0
	for _, m := range plain.Mounts {
		outputs = max(outputs, int(m.Output)+1)
		m.Selector = ""
		if namedCache(m) {
			m.CacheOpt.ID, m.CacheOpt.Sharing = "", 0
		}
	}
	if plain.Meta != nil {
		plain.Meta.ProxyEnv = nil
	}
	if onlyRoot(plain.Mounts) {
		plain.Mounts = nil
	}
	d, err := jsonDigest(execDoc(plain, normalPlatform(platform)))
	if err != nil {
		return nil, err
	}
	return &operation{digest: d, deps: deps, outputs: outputs}, nil
}

func execDoc(exec *pb.ExecOp, p ocispec.Platform) any {
	return struct {
		Type       string
		Exec       *pb.ExecOp
		OS         string
		Arch       string
		Variant    string   `json:",omitempty"`
		OSVersion  string   `json:",omitempty"`
		OSFeatures []string `json:",omitempty"`
	}{"buildkit.exec.v0", exec, p.OS, p.Architecture, p.Variant, p.OSVersion, p.OSFeatures}
}

// namedCache reports whether a cache mount has an id or sharing mode of its own. The digest leaves them out
// (checkShouldClearCacheOpts).
func namedCache(m *pb.Mount) bool {
	if m.CacheOpt == nil {
		return false
	}
	_, name, ok := strings.Cut(m.CacheOpt.ID, "/")
	ordinary := m.CacheOpt.ID == m.Dest || ok && name == m.Dest
	return !ordinary || m.CacheOpt.Sharing != 0
}

// onlyRoot reports whether a process has no mount but a writable root, as RUN without --mount. Old versions of BuildKit
// left that mount out.
func onlyRoot(mounts []*pb.Mount) bool {
	if len(mounts) != 1 {
		return false
	}
	m := mounts[0]
	return m.Dest == pb.RootMount && m.Selector == "" && !m.Readonly && m.MountType == pb.MountType_BIND &&
		m.CacheOpt == nil && m.SSHOpt == nil && m.SecretOpt == nil && m.ResultID == ""
}

// mountDeps returns the dependencies on mounts. Content identifies a mount that cannot reach an output with more than that
// content (getMountDeps).
func mountDeps(mounts []*pb.Mount, inputs int) ([]dep, error) {
	paths := make([][]string, inputs)
	deps := make([]dep, inputs)
	for _, m := range mounts {
		switch m.MountType {
		case pb.MountType_SECRET, pb.MountType_SSH, pb.MountType_TMPFS:
			continue
		}
		if m.Input == int64(pb.Empty) {
			continue
		}
		if m.Input < 0 || int(m.Input) >= inputs {
			return nil, invalidInput("mount "+m.Dest, m.Input)
		}
		at := path.Join("/", m.Selector)
		paths[m.Input] = append(paths[m.Input], at)
		content := m.Output == int64(pb.SkipOutput) || m.Readonly || at == pb.RootMount
		switch {
		case m.ContentCache == pb.MountContentCache_OFF:
			content = false
		case m.ContentCache == pb.MountContentCache_DEFAULT && m.Dest == pb.RootMount:
			content = false
		}
		deps[m.Input].content = content // if several mounts have the input, the last one decides
	}
	for i, list := range paths {
		if len(list) == 0 {
			continue
		}
		raw := make([][]byte, len(list))
		for j, p := range list {
			raw[j] = []byte(p)
		}
		deps[i].selector = listDigest(raw)
		if deps[i].content {
			deps[i].selections = mountSelections(dropNested(list))
		}
	}
	return deps, nil
}

// mountSelections returns the selections of paths, none if one is "/" (toSelectors).
func mountSelections(paths []string) []selection {
	if slices.Contains(paths, "/") {
		return nil
	}
	list := make([]selection, len(paths))
	for i, p := range paths {
		list[i] = selection{path: p, follow: true}
	}
	return list
}

// dropNested removes paths below other paths, and sorts the rest (dedupePaths).
func dropNested(paths []string) []string {
	if len(paths) <= 1 {
		return paths
	}
	var kept []string
	for _, p := range paths {
		below := slices.ContainsFunc(paths, func(q string) bool {
			return p != q && strings.HasPrefix(p, strings.TrimSuffix(q, "/")+"/")
		})
		if !below {
			kept = append(kept, p)
		}
	}
	slices.Sort(kept)
	return slices.Compact(kept)
}
