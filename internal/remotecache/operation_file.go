package remotecache

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"path"
	"slices"

	"github.com/moby/buildkit/solver/pb"
)

// fileOperation collects the dependencies of a file operation (solver/llbsolver/ops/file.go, CacheMap).
type fileOperation struct {
	inputs  int
	changed map[int64]bool        // inputs that actions change; the operation depends on all of them
	reads   map[int64][]selection // what actions read of the other inputs
}

func invalidInput(what string, i int64) error {
	return fmt.Errorf("%s has an invalid input %d", what, i)
}

func describeFile(op *pb.FileOp, inputs int) (*operation, error) {
	f := &fileOperation{inputs: inputs, changed: map[int64]bool{}, reads: map[int64][]selection{}}
	var actions [][]byte
	var indexes [][]int
	outputs := 0
	for _, a := range op.Actions {
		doc, err := f.action(a)
		if err != nil {
			return nil, err
		}
		actions = append(actions, doc)
		indexes = append(indexes, []int{int(a.Input), int(a.SecondaryInput), int(a.Output)})
		outputs = max(outputs, int(a.Output)+1)
	}
	if defaultIndexes(indexes) {
		indexes = nil
	}
	d, err := jsonDigest(struct {
		Type    string
		Actions [][]byte
		Indexes [][]int `json:"indexes,omitempty"`
	}{"buildkit.file.v0", actions, indexes})
	if err != nil {
		return nil, err
	}
	deps, err := f.deps()
	return &operation{digest: d, deps: deps, outputs: outputs}, err
}

// action records what an action reads, and describes the action. Of a source it has only the last name: the content is a
// dependency.
func (f *fileOperation) action(action *pb.FileAction) ([]byte, error) {
	f.changed[action.Input] = true
	switch a := action.Action.(type) {
	case *pb.FileAction_Mkdir:
		f.owner(a.Mkdir.Owner)
		return json.Marshal(a.Mkdir)
	case *pb.FileAction_Mkfile:
		f.owner(a.Mkfile.Owner)
		return json.Marshal(a.Mkfile)
	case *pb.FileAction_Symlink:
		return json.Marshal(a.Symlink)
	case *pb.FileAction_Rm:
		return json.Marshal(a.Rm)
	case *pb.FileAction_Copy:
		c := a.Copy.CloneVT()
		f.owner(c.Owner)
		if i := action.SecondaryInput; i != -1 && int(i) < f.inputs {
			f.reads[i] = append(f.reads[i], selection{
				path: c.Src, wildcard: c.AllowWildcard && hasWildcard(c.Src), follow: c.FollowSymlink,
				include: c.IncludePatterns, exclude: c.ExcludePatterns, required: c.RequiredPaths,
			})
			c.Src = path.Base(c.Src)
		}
		return json.Marshal(c)
	}
	return nil, nil
}

// owner records the files that resolve the names of an owner (processOwner).
func (f *fileOperation) owner(c *pb.ChownOpt) {
	if u := c.GetUser().GetByName(); u != nil && u.Input >= 0 {
		f.reads[u.Input] = append(f.reads[u.Input], selection{path: "/etc/passwd", follow: true})
	}
	if u := c.GetGroup().GetByName(); u != nil && u.Input >= 0 {
		f.reads[u.Input] = append(f.reads[u.Input], selection{path: "/etc/group", follow: true})
	}
}

func (f *fileOperation) deps() ([]dep, error) {
	deps := make([]dep, f.inputs)
	for i, list := range f.reads {
		if i < 0 || int(i) >= f.inputs {
			return nil, invalidInput("file operation", i)
		}
		if f.changed[i] {
			continue
		}
		paths := make([][]byte, len(list))
		for j, s := range list {
			paths[j] = []byte(s.path)
		}
		slices.SortFunc(paths, bytes.Compare)
		slices.Reverse(paths)
		deps[i] = dep{selector: listDigest(paths), content: true, selections: mergeSelections(list)}
	}
	return deps, nil
}

// mergeSelections removes plain paths below other paths (dedupeSelectors).
func mergeSelections(list []selection) []selection {
	var plain, followed []string
	var filtered []selection
	for _, s := range list {
		switch {
		case s.filtered():
			filtered = append(filtered, s)
		case s.follow:
			followed = append(followed, s.path)
		default:
			plain = append(plain, s.path)
		}
	}
	var merged []selection
	for _, p := range dropNested(plain) {
		merged = append(merged, selection{path: p})
	}
	for _, p := range dropNested(followed) {
		merged = append(merged, selection{path: p, follow: true})
	}
	merged = append(merged, filtered...)
	slices.SortFunc(merged, func(a, b selection) int { return cmp.Compare(a.path, b.path) })
	return merged
}

// defaultIndexes reports whether actions are a sequence on the first input that reads the second, which is the usual case.
// The digest then has no indexes, as in old versions of BuildKit (isDefaultIndexes).
func defaultIndexes(list [][]int) bool {
	for i, at := range list {
		first, last := i == 0, i == len(list)-1
		switch {
		case first && at[0] != 0:
			return false
		case !first && at[0] != len(list)+(i-1):
			return false
		case at[1] != -1 && at[1] != 1:
			return false
		case last && at[2] != 0, !last && at[2] != -1:
			return false
		}
	}
	return len(list) > 0
}
