package recorder

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/moby/buildkit/util/stack"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/redact"
)

// redact returns a text without credentials and the values of secret arguments.
func (r *Recorder) redact(text string) string { return r.secrets.Replace(redact.URLs(text)) }

// exporter is an exporter without credentials.
func (r *Recorder) exporter(e history.Exporter) history.Exporter {
	safe := history.Exporter{Type: e.Type, Attrs: map[string]string{}}
	for k, v := range e.Attrs {
		safe.Attrs[k] = r.redact(v)
	}
	return safe
}

// Made records the images of the exporters, before the end of the build.
func (r *Recorder) Made(results []history.Exported) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.build.Results = results
}

// definition is a graph as it is recorded; nil for one with credentials.
func (r *Recorder) definition(def *pb.Definition) []byte {
	data, err := def.MarshalVT()
	if err != nil || r.redact(string(data)) != string(data) {
		return nil
	}
	return data
}

// maxFailure bounds the details of an error, in bytes.
const maxFailure = 256 << 10

// failure is the error of the build as a google.rpc.Status, with the details that have no credentials.
func (r *Recorder) failure(err error) []byte {
	st := &rpcstatus.Status{Code: int32(codes.Unknown)}
	if s, ok := grpcerrors.AsGRPCStatus(grpcerrors.ToGRPC(context.Background(), stack.Enable(err))); ok {
		st = s.Proto()
	}
	st.Message = r.build.Error
	if errors.Is(err, context.Canceled) {
		st.Code, st.Message = int32(codes.Canceled), context.Canceled.Error()
	}
	st.Details = r.safeDetails(st.Details)
	data, err := proto.Marshal(st)
	if err != nil {
		return nil
	}
	return data
}

// safeDetails are the details of an error that have no credentials, as far as there is room for them.
func (r *Recorder) safeDetails(all []*anypb.Any) (safe []*anypb.Any) {
	room := maxFailure
	for _, d := range all {
		var trace stack.Stack
		if strings.HasSuffix(d.TypeUrl, "/stack.Stack+json") && json.Unmarshal(d.Value, &trace) == nil {
			trace.Cmdline = nil // the arguments of the server are not the client's business
			if data, err := json.Marshal(&trace); err == nil {
				d = &anypb.Any{TypeUrl: d.TypeUrl, Value: data}
			}
		}
		if len(d.Value) <= room && r.isSafe(d.Value) {
			safe, room = append(safe, d), room-len(d.Value)
		}
	}
	return safe
}

// isSafe reports whether the detail of an error, which is JSON, has no credentials. Its strings may be data in base64.
func (r *Recorder) isSafe(detail []byte) bool {
	var doc any
	dec := json.NewDecoder(bytes.NewReader(detail))
	dec.UseNumber()
	return dec.Decode(&doc) == nil && r.isSafeValue(doc)
}

func (r *Recorder) isSafeValue(v any) bool {
	switch v := v.(type) {
	case string:
		if r.redact(v) != v {
			return false
		}
		data, err := base64.StdEncoding.DecodeString(v)
		return err != nil || r.redact(string(data)) == string(data)
	case []any:
		for _, e := range v {
			if !r.isSafeValue(e) {
				return false
			}
		}
	case map[string]any:
		for k, e := range v {
			if !r.isSafeValue(k) || !r.isSafeValue(e) {
				return false
			}
		}
	}
	return true
}
