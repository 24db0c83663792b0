package bridge

import (
	"errors"

	"github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/opencontainers/go-digest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func digestOf(s string) digest.Digest { return digest.Digest(s) }

// defined is a reference that knows the graph that it is the result of: nil for the empty filesystem.
type defined interface{ Definition() *pb.Definition }

// keep gives a reference an ID. The empty filesystem has none.
func (b *Bridge) keep(ref client.Reference) (*gwpb.Ref, error) {
	if ref == nil {
		return &gwpb.Ref{}, nil
	}
	d, ok := ref.(defined)
	if ok && d.Definition() == nil {
		return &gwpb.Ref{}, nil
	}
	kept := &gwpb.Ref{Id: identity.NewID()}
	if ok {
		kept.Def = d.Definition()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.refs) >= maxRefs {
		return nil, status.Errorf(codes.ResourceExhausted, "the front end has %d results", maxRefs)
	}
	b.refs[kept.Id] = ref
	return kept, nil
}

// ref returns a reference by its ID, nil for the empty filesystem.
func (b *Bridge) ref(id string) (client.Reference, error) {
	if id == "" {
		return nil, nil //nolint:nilnil // see above
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	ref, ok := b.refs[id]
	if !ok {
		return nil, status.Errorf(codes.NotFound, "no such ref: %s", id)
	}
	return ref, nil
}

// IDs returns the IDs of references, "" for the empty filesystem.
func (b *Bridge) IDs(refs ...client.Reference) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]string, len(refs))
	for id, known := range b.refs {
		for i, ref := range refs {
			if ref == known {
				list[i] = id
			}
		}
	}
	return list
}

// toPB is a result as front ends get it. Front ends before BuildKit 0.8 know no graphs of results.
func (b *Bridge) toPB(res *client.Result, graphs bool) (*gwpb.Result, error) {
	out := &gwpb.Result{Metadata: res.Metadata}
	if res.Refs == nil {
		ref, err := b.keep(res.Ref)
		if err != nil {
			return nil, err
		}
		out.Result = &gwpb.Result_Ref{Ref: ref}
		if !graphs {
			out.Result = &gwpb.Result_RefDeprecated{RefDeprecated: ref.Id}
		}
	} else {
		refs, ids := map[string]*gwpb.Ref{}, map[string]string{}
		for k, r := range res.Refs {
			ref, err := b.keep(r)
			if err != nil {
				return nil, err
			}
			refs[k], ids[k] = ref, ref.Id
		}
		out.Result = &gwpb.Result_Refs{Refs: &gwpb.RefMap{Refs: refs}}
		if !graphs {
			out.Result = &gwpb.Result_RefsDeprecated{RefsDeprecated: &gwpb.RefMapDeprecated{Refs: ids}}
		}
	}
	for k, list := range res.Attestations {
		for _, a := range list {
			att, err := client.AttestationToPB(&a)
			if err != nil {
				return nil, err
			}
			if att.Ref, err = b.keep(a.Ref); err != nil {
				return nil, err
			}
			if out.Attestations == nil {
				out.Attestations = map[string]*gwpb.Attestations{}
			}
			if out.Attestations[k] == nil {
				out.Attestations[k] = &gwpb.Attestations{}
			}
			out.Attestations[k].Attestation = append(out.Attestations[k].Attestation, att)
		}
	}
	return out, nil
}

// fromPB is what a front end returns: a result, or the error that it failed with.
func (b *Bridge) fromPB(req *gwpb.ReturnRequest) (res *client.Result, failure, err error) {
	if e := req.Error; e != nil {
		failure = grpcerrors.FromGRPC(status.ErrorProto(e))
		if failure == nil {
			failure = errors.New("the front end has failed")
		}
		return nil, failure, nil
	}
	if req.Result == nil {
		return nil, nil, status.Error(codes.InvalidArgument, "the front end returned neither a result nor an error")
	}
	res = client.NewResult()
	res.Metadata = req.Result.Metadata
	refs, single := returned(req.Result)
	for k, id := range refs {
		ref, err := b.ref(id)
		if err != nil {
			return nil, nil, err
		}
		if single {
			res.SetRef(ref)
		} else {
			res.AddRef(k, ref)
		}
	}
	return res, nil, b.attestations(res, req.Result)
}

// returned are the IDs of the references in a result, "" for the only one.
func returned(r *gwpb.Result) (ids map[string]string, single bool) {
	switch r := r.Result.(type) {
	case *gwpb.Result_RefDeprecated:
		return map[string]string{"": r.RefDeprecated}, true
	case *gwpb.Result_Ref:
		return map[string]string{"": r.Ref.GetId()}, true
	case *gwpb.Result_RefsDeprecated:
		return r.RefsDeprecated.GetRefs(), false
	case *gwpb.Result_Refs:
		ids = map[string]string{}
		for k, ref := range r.Refs.GetRefs() {
			ids[k] = ref.GetId()
		}
		return ids, false
	}
	return nil, true
}

func (b *Bridge) attestations(res *client.Result, from *gwpb.Result) error {
	for k, list := range from.Attestations {
		for _, a := range list.GetAttestation() {
			if a == nil {
				return status.Error(codes.InvalidArgument, "an attestation has no value")
			}
			att, err := client.AttestationFromPB[client.Reference](a)
			if err != nil {
				return err
			}
			if att.Ref, err = b.ref(a.Ref.GetId()); err != nil {
				return err
			}
			res.AddAttestation(k, *att)
		}
	}
	return nil
}
