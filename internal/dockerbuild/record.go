package dockerbuild

import (
	"encoding/binary"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	bkclient "github.com/moby/buildkit/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/redact"
)

// record is BuildKit's record of a build as JSON (api/services/control, BuildHistoryRecord), with what buildx adds.
type record struct {
	Ref                    string
	Frontend               string
	FrontendAttrs          map[string]string
	Exporters              []exporterOf      `json:",omitempty"`
	Error                  *failure          `json:"error,omitempty"`
	CreatedAt, CompletedAt *timestamp        `json:",omitempty"`
	Logs                   *blob             `json:"logs"`
	Trace                  *blob             `json:"trace"`
	ExporterResponse       map[string]string `json:",omitempty"`
	Result                 result
	Results                map[string]result `json:",omitempty"` // by platform
	NumCachedSteps         int               `json:"numCachedSteps,omitempty"`
	NumTotalSteps          int               `json:"numTotalSteps,omitempty"`
	NumCompletedSteps      int               `json:"numCompletedSteps,omitempty"`

	DefaultPlatform string
	LocalState      *localState `json:"localState,omitempty"`
}

type exporterOf struct {
	Type  string
	Attrs map[string]string
}

// failure is an error as gRPC has it (google/rpc/status.proto).
type failure struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// The codes of failures (google/rpc/code.proto).
const (
	canceled = 1
	unknown  = 2
)

type timestamp struct {
	Seconds int64 `json:"seconds,omitempty"`
	Nanos   int   `json:"nanos,omitempty"`
}

type blob struct {
	MediaType   string            `json:"media_type"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type result struct {
	Attestations []*blob
	Results      map[int]*blob `json:",omitempty"`
}

// localState is what buildx knows of a build's directories.
type localState struct {
	Target         string
	LocalPath      string
	DockerfilePath string
}

func newRecord(b *history.Build, p parts) record {
	r := record{
		Ref: b.Ref, CreatedAt: at(b.Started), CompletedAt: at(b.Completed),
		Logs: blobOf(p.status), Trace: blobOf(p.trace), ExporterResponse: map[string]string{},
	}
	for platform, d := range p.provenance {
		made := result{Attestations: []*blob{blobOf(d)}}
		if platform == "" {
			r.Result = made
			continue
		}
		if r.Results == nil {
			r.Results = map[string]result{}
		}
		r.Results[platform] = made
	}
	r.Frontend, r.FrontendAttrs = Request(b)
	for _, e := range Exporters(b) {
		r.Exporters = append(r.Exporters, exporterOf(e))
	}
	switch b.Status {
	case history.Completed:
	case history.Canceled:
		r.Error = &failure{canceled, b.Error}
	default:
		r.Error = &failure{unknown, b.Error}
	}
	if len(b.Names) > 0 || b.Image != "" {
		r.ExporterResponse["image.name"] = strings.Join(b.Names, ",")
	}
	if b.Image != "" {
		r.ExporterResponse["containerimage.digest"] = b.Image.String()
	}
	if p.image != nil {
		r.Result.Results = map[int]*blob{0: blobOf(*p.image)}
	}
	for _, s := range b.Steps {
		r.NumTotalSteps++
		if s.State != "" {
			r.NumCompletedSteps++
		}
		if s.State == history.StepCached {
			r.NumCachedSteps++
		}
	}
	if len(b.Platforms) > 0 {
		r.DefaultPlatform = b.Platforms[0]
	}
	if b.Context != "" && b.Context != "-" {
		r.LocalState = &localState{b.Target, b.Context, b.Dockerfile}
	}
	return r
}

// Request is the front end of a build and its options, as its client has asked for them. A build of another kind is that of a Dockerfile.
func Request(b *history.Build) (frontend string, attrs map[string]string) {
	if b.Request != nil {
		return b.Request.Frontend, b.Request.Attrs
	}
	return "dockerfile.v0", attributes(b)
}

// Exporters are the exporters of a build: those that its client has asked for, and of another build the image.
func Exporters(b *history.Build) []history.Exporter {
	list := slices.Clone(b.Exporters)
	if len(b.Names) > 0 || b.Image != "" && b.Request == nil {
		list = append(list, history.Exporter{Type: "image", Attrs: map[string]string{"name": strings.Join(b.Names, ",")}})
	}
	return list
}

// attributes are the options of the front end. Arguments that are secrets by their names are left out.
func attributes(b *history.Build) map[string]string {
	attrs := map[string]string{"filename": path.Base(b.Dockerfile)}
	if b.Dockerfile == "" || b.Dockerfile == "-" {
		attrs["filename"] = "Dockerfile"
	}
	if b.Target != "" {
		attrs["target"] = b.Target
	}
	if len(b.Platforms) > 0 {
		attrs["platform"] = strings.Join(b.Platforms, ",")
	}
	if strings.Contains(b.Context, "://") {
		attrs["context"] = b.Context
	}
	for name, value := range b.Args {
		if !redact.IsSecret(name) {
			attrs["build-arg:"+name] = value
		}
	}
	return attrs
}

func at(t time.Time) *timestamp {
	if t.IsZero() {
		return nil
	}
	return &timestamp{t.Unix(), t.Nanosecond()}
}

func blobOf(d ocispec.Descriptor) *blob {
	return &blob{d.MediaType, d.Digest.String(), d.Size, d.Annotations}
}

// writeStatus writes the progress: messages of BuildKit's API, each behind its length (solver/llbsolver/history/buildhistory.go,
// ImportStatus).
func writeStatus(w io.Writer, progress func(send func(*bkclient.SolveStatus)) error) (err error) {
	sendErr := progress(func(st *bkclient.SolveStatus) {
		for _, message := range st.Marshal() {
			var data []byte
			if data, err = message.MarshalVT(); err != nil {
				return
			}
			if _, err = w.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(data)))); err == nil {
				_, err = w.Write(data)
			}
			if err != nil {
				return
			}
		}
	})
	if sendErr != nil {
		return sendErr
	}
	return err
}
