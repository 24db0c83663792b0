package control

import (
	"context"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/session/exporter"
	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/history"
)

// sessionExporters are the exporters that a client names when it knows the result of its build, beside those of its request.
type sessionExporters struct {
	client   *sessionClient
	enabled  bool // the client names some
	given    int  // how many exporters the request has
	defaults *exporterDefaults

	asked bool
	named []*controlapi.Exporter
	found []buildspec.Output // what they are
}

// outputs are what the client names for a result. It asks a client whose build has another front end than itself.
func (s *sessionExporters) outputs(ctx context.Context, res *client.Result) ([]buildspec.Output, []history.Exporter, error) {
	err := s.find(ctx, res, func(refs ...client.Reference) []string {
		ids := make([]string, len(refs))
		for i := range refs {
			ids[i] = identity.NewID() // which nobody can read
		}
		return ids
	})
	return s.found, recorded(s.named), err
}

// find asks the client once, when all steps have succeeded. ids are the IDs by which it can read references.
func (s *sessionExporters) find(ctx context.Context, res *client.Result, ids func(...client.Reference) []string) error {
	if !s.enabled || s.asked {
		return nil
	}
	s.asked = true
	var refs []client.Reference
	err := res.EachRef(func(ref client.Reference) error {
		refs = append(refs, ref)
		return ref.Evaluate(ctx)
	})
	if err != nil {
		return err
	}
	caller, err := s.client.caller(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := answering(ctx)
	defer cancel()
	resp, err := exporter.NewExporterClient(caller.Conn()).FindExporters(caller.Context(ctx), &exporter.FindExportersRequest{Metadata: res.Metadata, Refs: ids(refs...)})
	if code := grpcerrors.Code(err); code == codes.Unavailable || code == codes.Unimplemented {
		return nil
	}
	if err != nil {
		return err
	}
	for i, e := range resp.Exporters {
		if e == nil {
			return status.Error(codes.InvalidArgument, "an exporter has no value")
		}
		named := &controlapi.Exporter{Type: e.Type, Attrs: e.Attrs}
		o, err := output(s.given+i, named, s.defaults)
		if err != nil {
			return err
		}
		s.named, s.found = append(s.named, named), append(s.found, *o)
	}
	return nil
}
