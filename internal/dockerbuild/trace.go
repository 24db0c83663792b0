package dockerbuild

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/micabuild/mica/internal/history"
)

// The JSON of spans that BuildKit records: OpenTelemetry's SpanStub, a document for each (docker/buildx, util/otelutil/span.go).
type (
	span struct {
		Name               string
		SpanContext        spanContext
		Parent             spanContext
		SpanKind           int
		StartTime, EndTime time.Time
		Attributes         []attribute
		Events, Links      []struct{}
		Status             spanStatus
		ChildSpanCount     int
		Resource           []attribute
		// InstrumentationLibrary is what made the span.
		InstrumentationLibrary library
	}
	spanContext struct {
		TraceID, SpanID, TraceFlags, TraceState string
		Remote                                  bool
	}
	attribute struct {
		Key   string
		Value attributeValue
	}
	attributeValue struct {
		Type  string
		Value string
	}
	spanStatus struct {
		Code        string
		Description string
	}
	library struct{ Name, Version, SchemaURL string }
)

// internalKind is the kind of a span within a process.
const internalKind = 1

func text(key, value string) attribute { return attribute{key, attributeValue{"STRING", value}} }

// writeTrace writes the steps of a build as spans below one of the build.
func writeTrace(w io.Writer, b *history.Build) error {
	sum := sha256.Sum256([]byte(b.Ref))
	in := func(id []byte) spanContext {
		return spanContext{TraceID: hex.EncodeToString(sum[:16]), SpanID: hex.EncodeToString(id), TraceFlags: "01"}
	}
	root := in(sum[16:24])
	none := spanContext{TraceID: hex.EncodeToString(make([]byte, 16)), SpanID: hex.EncodeToString(make([]byte, 8)), TraceFlags: "00"}
	state := func(message string) spanStatus {
		if message == "" {
			return spanStatus{Code: "Unset"}
		}
		return spanStatus{"Error", message}
	}
	one := func(name string, id, parent spanContext, started, ended time.Time, message string, attrs ...attribute) span {
		return span{
			Name: name, SpanContext: id, Parent: parent, SpanKind: internalKind, StartTime: started, EndTime: ended, Attributes: attrs, Status: state(message),
			Resource: []attribute{text("service.name", "mica")}, InstrumentationLibrary: library{Name: "mica"},
		}
	}
	spans := []span{one("build", root, none, b.Started, b.Started.Add(b.Duration()), b.Error, text("build.ref", b.Ref))}
	for _, s := range b.Steps {
		if s.Started.IsZero() || s.Completed.IsZero() {
			continue
		}
		id := sha256.Sum256([]byte(b.Ref + s.Vertex.String()))
		spans = append(spans, one(s.Name, in(id[:8]), root, s.Started, s.Completed, s.Error, text("vertex", s.Vertex.String())))
		spans[0].ChildSpanCount++
	}
	enc := json.NewEncoder(w)
	for _, s := range spans {
		if err := enc.Encode(s); err != nil {
			return fmt.Errorf("trace: %w", err)
		}
	}
	return nil
}
