package historycmd

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/history"
)

func newTraceCommand(app *command.App) *cobra.Command {
	return &cobra.Command{
		Use:               "trace [BUILD]",
		Short:             "Print the steps of a build as an OpenTelemetry trace",
		Long:              "Print the steps of a build as an OpenTelemetry trace, in the JSON of OTLP, which Jaeger and others load." + newest,
		Args:              command.RequireArgs(0, 1),
		ValidArgsFunction: complete(app),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, b, err := find(cmd.Context(), app, args)
			if err != nil {
				return err
			}
			return writeTrace(app.Stdout, b)
		},
	}
}

// The JSON of OTLP (opentelemetry-proto, trace/v1/trace.proto): ids are in hexadecimal, 64-bit numbers are strings.
type (
	traceData struct {
		ResourceSpans []resourceSpans `json:"resourceSpans"`
	}
	resourceSpans struct {
		Resource   resource     `json:"resource"`
		ScopeSpans []scopeSpans `json:"scopeSpans"`
	}
	resource struct {
		Attributes []attribute `json:"attributes"`
	}
	scopeSpans struct {
		Scope scope  `json:"scope"`
		Spans []span `json:"spans"`
	}
	scope struct {
		Name string `json:"name"`
	}
	span struct {
		TraceID    string      `json:"traceId"`
		SpanID     string      `json:"spanId"`
		Parent     string      `json:"parentSpanId,omitempty"`
		Name       string      `json:"name"`
		Kind       int         `json:"kind"`
		Start      string      `json:"startTimeUnixNano"`
		End        string      `json:"endTimeUnixNano"`
		Attributes []attribute `json:"attributes,omitempty"`
		Status     spanStatus  `json:"status"`
	}
	attribute struct {
		Key   string         `json:"key"`
		Value attributeValue `json:"value"`
	}
	attributeValue struct {
		String string `json:"stringValue"`
	}
	spanStatus struct {
		Code    int    `json:"code,omitempty"` // 2 is an error
		Message string `json:"message,omitempty"`
	}
)

func text(key, value string) attribute { return attribute{key, attributeValue{value}} }

func nano(t time.Time) string { return strconv.FormatInt(t.UnixNano(), 10) }

func writeTrace(w io.Writer, b *history.Build) error {
	sum := sha256.Sum256([]byte(b.Ref))
	trace, root := hex.EncodeToString(sum[:16]), hex.EncodeToString(sum[16:24])
	failed := func(message string) spanStatus {
		if message == "" {
			return spanStatus{}
		}
		return spanStatus{2, message}
	}
	spans := []span{{
		TraceID: trace, SpanID: root, Name: "build " + buildName(b), Kind: 1, Start: nano(b.Started), End: nano(b.Started.Add(b.Duration())),
		Attributes: []attribute{text("build.ref", b.Ref), text("build.status", string(b.Status))}, Status: failed(b.Error),
	}}
	for _, s := range b.Steps {
		if s.Started.IsZero() || s.Completed.IsZero() {
			continue
		}
		id := sha256.Sum256([]byte(s.Vertex))
		one := span{
			TraceID: trace, SpanID: hex.EncodeToString(id[:8]), Parent: root, Name: s.Name, Kind: 1, Start: nano(s.Started), End: nano(s.Completed),
			Attributes: []attribute{text("vertex", s.Vertex.String()), text("step.status", string(s.State))}, Status: failed(s.Error),
		}
		if text := b.Because(s); text != "" {
			one.Attributes = append(one.Attributes, attribute{"step.cause", attributeValue{text}})
		}
		spans = append(spans, one)
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(traceData{[]resourceSpans{{
		Resource:   resource{[]attribute{text("service.name", "mica")}},
		ScopeSpans: []scopeSpans{{scope{"mica"}, spans}},
	}}})
}
