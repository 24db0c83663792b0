package control_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/content/proxy"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/errdefs"
	provenancetypes "github.com/moby/buildkit/solver/llbsolver/provenance/types"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// record is the record of a build that has ended.
func (s *server) record(t *testing.T, ref string) *controlapi.BuildHistoryRecord {
	t.Helper()
	stream, err := s.client.ControlClient().ListenBuildHistory(t.Context(), &controlapi.BuildHistoryRequest{EarlyExit: true, Ref: ref})
	if err != nil {
		t.Fatal(err)
	}
	e, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return e.Record
}

// part reads what a record refers to.
func (s *server) part(t *testing.T, d *controlapi.Descriptor) []byte {
	t.Helper()
	store := proxy.NewContentStore(s.client.ContentClient())
	data, err := content.ReadBlob(t.Context(), store, ocispec.Descriptor{MediaType: d.MediaType, Digest: digest.Digest(d.Digest), Size: d.Size})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Info(t.Context(), digest.Digest(d.Digest)); err != nil {
		t.Error(err)
	}
	return data
}

// TestRecordOfExports: a record has the exporters that the client asked for, and the image of each.
func TestRecordOfExports(t *testing.T) {
	t.Parallel()
	s := start(t)
	dockerfile := "FROM scratch\nCOPY Dockerfile /\n"
	o := options(t, write(t, map[string]string{"Dockerfile": dockerfile}))
	o.Ref = "several"
	var files sink
	o.Exports = []client.ExportEntry{
		{Type: client.ExporterTar, Output: files.open},
		{Type: client.ExporterImage, Attrs: map[string]string{"name": "one"}},
		{Type: client.ExporterImage, Attrs: map[string]string{"name": "two", "oci-mediatypes": "false"}},
	}
	if _, _, err := s.solve(t, nil, o); err != nil {
		t.Fatal(err)
	}
	r := s.record(t, "several")
	if len(r.Exporters) != 3 || r.Exporters[2].Type != "image" || r.Exporters[2].Attrs["name"] != "two" || len(r.Result.Results) != 2 {
		t.Fatalf("%+v", r)
	}
	for i, want := range map[int64]string{1: ocispec.MediaTypeImageManifest, 2: "application/vnd.docker.distribution.manifest.v2+json"} {
		var m ocispec.Manifest
		if err := json.Unmarshal(s.part(t, r.Result.Results[i]), &m); err != nil || m.MediaType != want || r.Result.Results[i].MediaType != want {
			t.Errorf("exporter %d: %s, want %s, %v", i, m.MediaType, want, err)
		}
	}
	var prov provenancetypes.ProvenancePredicateSLSA1
	attestation := r.Result.Attestations[0]
	if err := json.Unmarshal(s.part(t, attestation), &prov); err != nil || attestation.Annotations["in-toto.io/predicate-type"] != "https://slsa.dev/provenance/v1" {
		t.Fatalf("%v, %v", attestation, err)
	}
	if infos := prov.RunDetails.Metadata.BuildKitMetadata.Source.Infos; len(infos) != 1 || string(infos[0].Data) != dockerfile || len(infos[0].Definition) == 0 {
		t.Errorf("%+v", infos)
	}
	if steps := prov.BuildDefinition.InternalParameters.BuildConfig; steps == nil || len(steps.Definition) < 2 || len(steps.DigestMapping) < 2 {
		t.Errorf("the steps are not there: %+v", steps)
	}
}

// TestProvenanceOfRecord: the record of a build has the provenance of each platform, whatever the image has, without secrets.
func TestProvenanceOfRecord(t *testing.T) {
	t.Parallel()
	s := start(t)
	o := options(t, write(t, map[string]string{"Dockerfile": "FROM scratch\nARG API_TOKEN\nARG V\nCOPY <<E /secret\n$API_TOKEN\nE\n"}))
	o.Ref, o.FrontendAttrs = "platforms", map[string]string{"platform": "linux/amd64,linux/arm64", "build-arg:API_TOKEN": "hunter22", "build-arg:V": "1"}
	if _, _, err := s.solve(t, nil, o); err != nil {
		t.Fatal(err)
	}
	r := s.record(t, "platforms")
	if len(r.Results) != 2 || len(r.Result.Attestations) != 0 {
		t.Fatalf("%+v", r)
	}
	for platform, made := range r.Results {
		var prov provenancetypes.ProvenancePredicateSLSA1
		data := s.part(t, made.Attestations[0])
		if err := json.Unmarshal(data, &prov); err != nil {
			t.Fatal(err)
		}
		asked := prov.BuildDefinition.ExternalParameters.Request
		if asked.Frontend != "dockerfile.v0" || asked.Args["build-arg:V"] != "1" || prov.BuildDefinition.InternalParameters.BuildConfig == nil {
			t.Errorf("%s: %s", platform, data)
		}
		if secret := base64.StdEncoding.EncodeToString([]byte("hunter22\n")); bytes.Contains(data, []byte("hunter22")) || bytes.Contains(data, []byte(secret)) {
			t.Errorf("%s has a secret: %s", platform, data)
		}
	}
}

// TestRecordOfNestedSecrets: the record of a build has no secrets that a front end gives to another one.
func TestRecordOfNestedSecrets(t *testing.T) {
	t.Parallel()
	s := start(t)
	o := options(t, write(t, map[string]string{"Dockerfile": "FROM scratch\nARG API_TOKEN\nCOPY <<E /secret\n$API_TOKEN\nE\n"}))
	o.Ref, o.Frontend = "nested", ""
	own := func(ctx context.Context, g gateway.Client) (*gateway.Result, error) {
		return g.Solve(ctx, gateway.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: map[string]string{"build-arg:API_TOKEN": "hunter22"}})
	}
	if _, err := s.client.Build(t.Context(), o, "", own, nil); err != nil {
		t.Fatal(err)
	}
	r := s.record(t, "nested")
	text, err := proto.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"record": text, "provenance": s.part(t, r.Result.Attestations[0])} {
		if secret := base64.StdEncoding.EncodeToString([]byte("hunter22\n")); bytes.Contains(data, []byte("hunter22")) || bytes.Contains(data, []byte(secret)) {
			t.Errorf("the %s has a secret: %s", name, data)
		}
	}
}

// TestRecordOfRequest: a record has the front end and its options as the client has asked for them.
func TestRecordOfRequest(t *testing.T) {
	t.Parallel()
	s := start(t)
	def, err := llb.Scratch().File(llb.Mkfile("/a", 0o644, nil)).Marshal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	o := options(t, write(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"}))
	o.Ref = "compiler"
	o.FrontendAttrs = map[string]string{
		"build-arg:V": "1", "label:l": "x", "attest:provenance": "mode=min", "build-arg:API_TOKEN": "hunter22", "build-arg:HTTP_PROXY": "http://u:pw@proxy",
		"build-arg:FROM": "https://u:pw@host/ hunter22",
	}
	if _, _, err := s.solve(t, nil, o); err != nil {
		t.Fatal(err)
	}
	o.Ref, o.Frontend, o.FrontendAttrs = "llb", "", nil
	if _, _, err := s.solve(t, def, o); err != nil {
		t.Fatal(err)
	}
	o.Ref, o.FrontendAttrs = "itself", map[string]string{"x": "y"}
	own := func(ctx context.Context, g gateway.Client) (*gateway.Result, error) {
		return g.Solve(ctx, gateway.SolveRequest{Definition: def.ToPB()})
	}
	if _, err := s.client.Build(t.Context(), o, "", own, nil); err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[string]*controlapi.BuildHistoryRecord{
		"compiler": {Frontend: "dockerfile.v0", FrontendAttrs: map[string]string{
			"build-arg:V": "1", "label:l": "x", "attest:provenance": "mode=min", "build-arg:FROM": "https://xxxxx:xxxxx@host/ xxxxx",
		}},
		"llb":    {},
		"itself": {FrontendAttrs: map[string]string{"x": "y"}},
	} {
		if r := s.record(t, ref); r.Frontend != want.Frontend || !maps.Equal(r.FrontendAttrs, want.FrontendAttrs) {
			t.Errorf("%s: %q, %v, want %q, %v", ref, r.Frontend, r.FrontendAttrs, want.Frontend, want.FrontendAttrs)
		}
	}
}

// TestRecordOfError: the record of a failed build has the error as its client got it.
func TestRecordOfError(t *testing.T) {
	t.Parallel()
	s := start(t)
	o := options(t, write(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY missing /\n"}))
	o.Ref = "broken"
	_, _, sent := s.solve(t, nil, o)
	if sent == nil {
		t.Fatal("no error")
	}
	r := s.record(t, "broken")
	if r.ExternalError == nil || r.Error == nil || len(r.Error.Details) != 0 {
		t.Fatalf("%+v", r)
	}
	var st rpcstatus.Status
	if err := proto.Unmarshal(s.part(t, r.ExternalError), &st); err != nil || st.Code != r.Error.Code || st.Message != r.Error.Message {
		t.Errorf("%v, %v, want %v", &st, err, r.Error)
	}
	err := grpcerrors.FromGRPC(status.ErrorProto(&st))
	var recorded, got *errdefs.VertexError
	if !errors.As(err, &recorded) || !errors.As(sent, &got) || recorded.Digest != got.Digest || len(errdefs.Sources(err)) != 1 {
		t.Errorf("step %v, the client's %v, %d places", recorded, got, len(errdefs.Sources(err)))
	}
}
