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
func (r *Recorder) redact(text string) string { return r.secrets.mask(redact.URLs(text)) }

// request is a request without credentials, proxies and the values of secret arguments.
func (r *Recorder) request(asked *history.Request) *history.Request {
	if asked == nil {
		return nil
	}
	safe := &history.Request{Frontend: asked.Frontend, Attrs: map[string]string{}}
	for k, v := range asked.Attrs {
		if k == "cache-imports" { // which has the credentials of caches
			continue
		}
		if arg, ok := strings.CutPrefix(k, "build-arg:"); !ok || !isProxy(arg) && !redact.IsSecret(arg) {
			safe.Attrs[k] = r.redact(v)
		}
	}
	return safe
}

// Exporters records exporters that the client has asked for, after those that it has asked for before.
func (r *Recorder) Exporters(list []history.Exporter) {
	if r == nil || len(list) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range list {
		r.build.Exporters = append(r.build.Exporters, r.exporter(e))
	}
}

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

// Provenance records the provenance of each platform, without credentials. If it could not be made, the history has what it knows itself.
func (r *Recorder) Provenance(all map[string]json.RawMessage, err error) {
	if r == nil || r.writer == nil {
		return
	}
	for platform, predicate := range all {
		if all[platform], err = r.redactDocument(predicate); err != nil {
			break
		}
	}
	if err == nil {
		err = r.writer.Provenance(all)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keep(err)
}

// redactDocument returns JSON without credentials. Its strings may be data in base64.
func (r *Recorder) redactDocument(data []byte) ([]byte, error) {
	doc, err := decode(data)
	if err != nil {
		return nil, err
	}
	return json.Marshal(r.redactValue(doc))
}

func (r *Recorder) redactValue(v any) any {
	switch v := v.(type) {
	case string:
		if data, err := base64.StdEncoding.DecodeString(v); err == nil {
			if safe := r.redact(string(data)); safe != string(data) {
				return base64.StdEncoding.EncodeToString([]byte(safe))
			}
		}
		return r.redact(v)
	case []any:
		for i := range v {
			v[i] = r.redactValue(v[i])
		}
	case map[string]any:
		safe := map[string]any{}
		for k, e := range v {
			if arg, ok := strings.CutPrefix(k, "build-arg:"); !ok || !redact.IsSecret(arg) {
				safe[r.redact(k)] = r.redactValue(e)
			}
		}
		return safe
	}
	return v
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
	doc, err := decode(detail)
	return err == nil && r.isSafeValue(doc)
}

// decode reads JSON, numbers as they are written.
func decode(data []byte) (doc any, err error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	return doc, dec.Decode(&doc)
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
