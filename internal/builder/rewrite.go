package builder

import (
	"fmt"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/proto"
)

// rewrite changes the operations of a graph, which change gets with their digests. An operation names its inputs by their digests, so those that use a changed one change too.
func rewrite(def *pb.Definition, change func(d string, op *pb.Op)) (*pb.Definition, error) {
	r := &rewriter{data: map[string][]byte{}, done: map[string]string{}, change: change, out: &pb.Definition{Source: def.Source}}
	for _, data := range def.Def {
		r.data[digest.FromBytes(data).String()] = data
	}
	for _, data := range def.Def {
		if _, err := r.operation(digest.FromBytes(data).String(), 0); err != nil {
			return nil, err
		}
	}
	r.out.Metadata = renamed(def.Metadata, r.done)
	if def.Source != nil {
		r.out.Source = &pb.Source{Infos: def.Source.Infos, Locations: renamed(def.Source.Locations, r.done)}
	}
	return r.out, nil
}

type rewriter struct {
	data   map[string][]byte // operations by digest
	done   map[string]string // new digests by old ones
	change func(d string, op *pb.Op)
	out    *pb.Definition
}

// operation changes one operation, its inputs first, and returns its new digest.
func (r *rewriter) operation(d string, depth int) (string, error) {
	if to, ok := r.done[d]; ok {
		return to, nil
	}
	data, ok := r.data[d]
	if !ok || depth > len(r.data) {
		return "", fmt.Errorf("invalid definition: input %s is missing", d)
	}
	var op pb.Op
	if err := op.UnmarshalVT(data); err != nil {
		return "", fmt.Errorf("invalid definition: %w", err)
	}
	before := op.CloneVT()
	for _, in := range op.Inputs {
		if in == nil {
			return "", fmt.Errorf("invalid definition: an input of %s has no value", d)
		}
		to, err := r.operation(in.Digest, depth+1)
		if err != nil {
			return "", err
		}
		in.Digest = to
	}
	r.change(d, &op)
	to := d
	if !op.EqualVT(before) {
		changed, err := proto.MarshalOptions{Deterministic: true}.Marshal(&op)
		if err != nil {
			return "", err
		}
		data, to = changed, digest.FromBytes(changed).String()
	}
	r.done[d] = to
	r.out.Def = append(r.out.Def, data)
	return to, nil
}

// renamed is a map whose keys have become others.
func renamed[V any](m map[string]V, to map[string]string) map[string]V {
	out := make(map[string]V, len(m))
	for k, v := range m {
		if name, ok := to[k]; ok {
			k = name
		}
		out[k] = v
	}
	return out
}
