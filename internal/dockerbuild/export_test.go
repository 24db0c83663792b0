package dockerbuild

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/buildx/util/otelutil"
	control "github.com/moby/buildkit/api/services/control"
	bkclient "github.com/moby/buildkit/client"
	provenancetypes "github.com/moby/buildkit/solver/llbsolver/provenance/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/ocilayout"
)

var started = time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)

// sample is a build with a step that ran and one that was cached.
func sample(ref string, status history.Status) Build {
	base := "sha256:" + strings.Repeat("b", 64)
	ran := &history.Step{
		Vertex: digest.FromString("run"), Name: "[2/2] RUN make", Line: 2, State: history.StepRan, Started: started, Completed: started.Add(time.Second),
	}
	b := &history.Build{
		Ref: ref, Context: "/src", Dockerfile: "/src/Dockerfile.prod", Target: "prod", Platforms: []string{"linux/arm64"}, Names: []string{"app:1"},
		Args: map[string]string{"V": "1", "API_TOKEN": "s3cret"}, Text: "FROM base\nRUN make\n", Started: started, Completed: started.Add(2 * time.Second),
		Status: status, Steps: []*history.Step{
			{Vertex: digest.FromString("base"), Name: "[1/2] FROM base", State: history.StepCached, Source: &history.Source{Identifier: "docker-image://docker.io/library/base:latest@" + base}},
			{Vertex: digest.FromString("context"), Name: "[internal] load build context", Source: &history.Source{Identifier: "local://context"}}, ran,
		},
	}
	return Build{
		Build: b,
		Progress: func(send func(*bkclient.SolveStatus)) error {
			send(&bkclient.SolveStatus{Vertexes: []*bkclient.Vertex{{Digest: ran.Vertex, Name: ran.Name, Started: &ran.Started}}})
			send(&bkclient.SolveStatus{Logs: []*bkclient.VertexLog{{Vertex: ran.Vertex, Stream: 1, Data: []byte("making\n"), Timestamp: started}}})
			return nil
		},
		Image: func(digest.Digest) (string, []byte, error) { return "", nil, fs.ErrNotExist },
	}
}

// opened is an exported file.
type opened struct {
	t   *testing.T
	src *ocilayout.Source
}

func export(t *testing.T, builds ...Build) (*opened, ocispec.Descriptor) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.dockerbuild")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(Export(f, builds...), f.Close()); err != nil {
		t.Fatal(err)
	}
	src, err := (&ocilayout.Location{Kind: ocilayout.OCIArchive, Path: path}).Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = src.Close() })
	root, err := src.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return &opened{t, src}, root
}

func (o *opened) blob(d ocispec.Descriptor) []byte {
	o.t.Helper()
	r, err := o.src.Fetch(o.t.Context(), d)
	if err != nil {
		o.t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		o.t.Fatal(err)
	}
	return data
}

func (o *opened) document(d ocispec.Descriptor, doc any) {
	o.t.Helper()
	if err := json.Unmarshal(o.blob(d), doc); err != nil {
		o.t.Fatal(err)
	}
}

func layerOf(t *testing.T, m *ocispec.Manifest, mediaType string) ocispec.Descriptor {
	t.Helper()
	i := slices.IndexFunc(m.Layers, func(d ocispec.Descriptor) bool { return d.MediaType == mediaType })
	if i < 0 {
		t.Fatalf("no layer is %s", mediaType)
	}
	return m.Layers[i]
}

// TestExport: BuildKit's and buildx's own types read what a build is exported as.
func TestExport(t *testing.T) {
	t.Parallel()
	b := sample("abc", history.Completed)
	image := []byte(`{"schemaVersion":2}`)
	b.Build.Image = digest.FromBytes(image)
	b.Image = func(digest.Digest) (string, []byte, error) { return ocispec.MediaTypeImageManifest, image, nil }
	o, root := export(t, b)
	var m ocispec.Manifest
	o.document(root, &m)
	var rec struct {
		*control.BuildHistoryRecord
		DefaultPlatform string
		LocalState      struct{ Target, LocalPath, DockerfilePath string } `json:"localState"`
	}
	o.document(m.Config, &rec)
	if rec.Ref != "abc" || rec.Frontend != "dockerfile.v0" || !rec.CreatedAt.AsTime().Equal(started) || !rec.CompletedAt.AsTime().Equal(started.Add(2*time.Second)) ||
		rec.Error != nil || rec.NumTotalSteps != 3 || rec.NumCompletedSteps != 2 || rec.NumCachedSteps != 1 || rec.DefaultPlatform != "linux/arm64" {
		t.Errorf("%+v", rec)
	}
	want := map[string]string{"filename": "Dockerfile.prod", "target": "prod", "platform": "linux/arm64", "build-arg:V": "1"}
	for k, v := range want {
		if rec.FrontendAttrs[k] != v {
			t.Errorf("%s is %q, want %q", k, rec.FrontendAttrs[k], v)
		}
	}
	if len(rec.FrontendAttrs) != len(want) || rec.LocalState.LocalPath != "/src" || rec.LocalState.DockerfilePath != "/src/Dockerfile.prod" {
		t.Errorf("%v, %+v", rec.FrontendAttrs, rec.LocalState)
	}
	manifest := layerOf(t, &m, "application/json")
	if manifest.Digest != b.Build.Image || manifest.Annotations[originalType] != ocispec.MediaTypeImageManifest || rec.Result.Results[0].Digest != manifest.Digest.String() {
		t.Errorf("result %+v, %+v", manifest, rec.Result)
	}
	for d, mediaType := range map[*control.Descriptor]string{rec.Logs: statusType, rec.Trace: traceType, rec.Result.Attestations[0]: provenanceType} {
		if l := layerOf(t, &m, mediaType); d.Digest != l.Digest.String() || d.Size != l.Size || d.MediaType != mediaType {
			t.Errorf("%+v is not %+v", d, l)
		}
	}
	checkProgress(t, o.blob(layerOf(t, &m, statusType)))
	spans, err := otelutil.ParseSpanStubs(bytes.NewReader(o.blob(layerOf(t, &m, traceType))))
	if err != nil || len(spans) != 2 || spans[1].Name != "[2/2] RUN make" || spans[1].EndTime.Sub(spans[1].StartTime) != time.Second ||
		spans[1].Parent.SpanID() != spans[0].SpanContext.SpanID() || spans[0].Parent.SpanID().IsValid() {
		t.Errorf("%+v, %v", spans, err)
	}
	var prov provenancetypes.ProvenancePredicateSLSA02
	o.document(layerOf(t, &m, provenanceType), &prov)
	if len(prov.Materials) != 1 || !strings.Contains(prov.Materials[0].URI, "base") || prov.Metadata.BuildInvocationID != "abc" ||
		string(prov.Metadata.BuildKitMetadata.Source.Infos[0].Data) != b.Text || prov.Invocation.Parameters.Args["build-arg:V"] != "1" {
		t.Errorf("%+v", prov)
	}
	for _, d := range append(m.Layers, m.Config) {
		if strings.Contains(string(o.blob(d)), "s3cret") {
			t.Errorf("%s has a secret", d.MediaType)
		}
	}
}

// checkProgress reads messages as BuildKit does (solver/llbsolver/history/buildhistory.go, Status).
func checkProgress(t *testing.T, data []byte) {
	t.Helper()
	var names, logs []string
	for len(data) > 0 {
		n := binary.LittleEndian.Uint32(data)
		var st control.StatusResponse
		if err := st.UnmarshalVT(data[4 : 4+n]); err != nil {
			t.Fatal(err)
		}
		data = data[4+n:]
		for _, v := range st.Vertexes {
			names = append(names, v.Name)
		}
		for _, l := range st.Logs {
			logs = append(logs, string(l.Msg))
		}
	}
	if !slices.Equal(names, []string{"[2/2] RUN make"}) || !slices.Equal(logs, []string{"making\n"}) {
		t.Errorf("%q, %q", names, logs)
	}
}

// TestExportProvenance: the provenance of each platform is that which its builder has made, in the older version.
func TestExportProvenance(t *testing.T) {
	t.Parallel()
	b := sample("abc", history.Completed)
	b.Request = &history.Request{Frontend: "gateway.v0", Attrs: map[string]string{"source": "frontend"}}
	b.Exporters = []history.Exporter{{Type: "tar"}}
	made := `{"buildDefinition":{"internalParameters":{"buildConfig":{"llbDefinition":[{"id":"step0"}]}}}}`
	b.Provenance = map[string]json.RawMessage{"linux/amd64": json.RawMessage(made), "linux/arm64": json.RawMessage(made)}
	o, root := export(t, b)
	var m ocispec.Manifest
	o.document(root, &m)
	var rec control.BuildHistoryRecord
	o.document(m.Config, &rec)
	if rec.Frontend != "gateway.v0" || rec.FrontendAttrs["source"] != "frontend" || rec.Exporters[0].Type != "tar" || len(rec.Results) != 2 {
		t.Errorf("%+v", &rec)
	}
	var prov provenancetypes.ProvenancePredicateSLSA02
	o.document(layerOf(t, &m, provenanceType), &prov)
	if prov.BuildConfig == nil || len(prov.BuildConfig.Definition) != 1 || prov.BuildConfig.Definition[0].ID != "step0" {
		t.Errorf("%+v", prov)
	}
}

// TestExportSeveral: an index lists several builds by their refs; errors have BuildKit's codes.
func TestExportSeveral(t *testing.T) {
	t.Parallel()
	failed, canceled, open := sample("b1", history.Failed), sample("b2", history.Canceled), sample("b3", history.Interrupted)
	failed.Error, open.Completed = "exit code: 1", time.Time{}
	o, root := export(t, failed, canceled, open)
	var index ocispec.Index
	o.document(root, &index)
	var got []string
	for _, d := range index.Manifests {
		var m ocispec.Manifest
		o.document(d, &m)
		var rec control.BuildHistoryRecord
		o.document(m.Config, &rec)
		got = append(got, d.Annotations[reference]+" "+rec.Ref+" "+rec.Error.Message+" "+fmt.Sprint(rec.Error.Code))
		if len(m.Layers) != 3 || (rec.CompletedAt == nil) != (rec.Ref == "b3") {
			t.Errorf("%s has %d layers, completed %v", rec.Ref, len(m.Layers), rec.CompletedAt)
		}
	}
	if want := []string{"b1 b1 exit code: 1 2", "b2 b2  1", "b3 b3  2"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestExportErrors: what cannot be read or written is an error that names the build.
func TestExportErrors(t *testing.T) {
	t.Parallel()
	b := sample("abc", history.Completed)
	b.Progress = func(func(*bkclient.SolveStatus)) error { return errors.New("the log is damaged") }
	if err := Export(io.Discard, b); err == nil || err.Error() != "export builds: build abc: the log is damaged" {
		t.Errorf("%v", err)
	}
	if err := Export(full{}, sample("abc", history.Completed)); err == nil || !strings.Contains(err.Error(), "no space") {
		t.Errorf("%v", err)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }
