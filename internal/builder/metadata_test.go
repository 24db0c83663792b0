package builder

import (
	"archive/tar"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/solver/result"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/sbom"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/view"
)

// buildFrontend builds with a front end whose result is a file, changed by with.
func buildFrontend(t *testing.T, o Options, with func(ref client.Reference, res *client.Result)) (*Result, map[string]*memorySink) {
	t.Helper()
	files := map[string]*memorySink{}
	o.Context, o.Create = ClientContext{}, func(dest string) (Sink, error) {
		files[dest] = &memorySink{}
		return files[dest], nil
	}
	o.Frontend = func(ctx context.Context, c client.Client) (*client.Result, error) {
		def, err := llb.Scratch().File(llb.Mkfile("/f", 0o644, []byte("x"))).Marshal(ctx)
		if err != nil {
			return nil, err
		}
		res, err := c.Solve(ctx, client.SolveRequest{Definition: def.ToPB()})
		if err == nil {
			with(res.Ref, res)
		}
		return res, err
	}
	res, err := newBuilder(t).Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return res, files
}

// TestFrontendMetadata: a front end names and annotates the image, and returns metadata to the client. An output may replace the config.
func TestFrontendMetadata(t *testing.T) {
	t.Parallel()
	outputs, err := buildspec.ParseOutputs([]string{
		"type=oci,dest=x,name=*,annotation.own=a", "type=oci,dest=y,name=mine", `type=oci,dest=z,"containerimage.config={""os"":""linux"",""architecture"":""arm""}"`,
	})
	if err != nil {
		t.Fatal(err)
	}
	res, files := buildFrontend(t, Options{Spec: buildspec.Spec{Outputs: outputs}}, func(_ client.Reference, res *client.Result) {
		res.AddMeta("image.name", []byte("theirs:1"))
		res.AddMeta("frontend.returned", []byte("yes"))
		res.AddMeta("other", []byte("no"))
		res.AddMeta(exptypes.AnnotationManifestKey(nil, "theirs"), []byte("b"))
	})
	if len(res.Metadata) != 1 || string(res.Metadata["frontend.returned"]) != "yes" {
		t.Errorf("the client gets %q", res.Metadata)
	}
	for i, want := range []string{"docker.io/library/theirs:1", "docker.io/library/mine:latest", ""} {
		if got := strings.Join(res.Exports[i].Names, " "); got != want {
			t.Errorf("output %d has the names %q, want %q", i, got, want)
		}
	}
	var m ocispec.Manifest
	if err := json.Unmarshal([]byte(members(t, files["x"])["blobs/sha256/"+res.Exports[0].Root.Digest.Encoded()]), &m); err != nil {
		t.Fatal(err)
	}
	if m.Annotations["own"] != "a" || m.Annotations["theirs"] != "b" {
		t.Errorf("annotations %v", m.Annotations)
	}
	if got := res.Exports[2].Image.Config.Architecture; got != "arm" {
		t.Errorf("the config of the output is for %s", got)
	}
}

// TestPlatformsOfResult: a result for other platforms than those asked for is shown as a warning.
func TestPlatformsOfResult(t *testing.T) {
	t.Parallel()
	for asked, want := range map[string]string{
		"linux/amd64,linux/arm64": "Multiple platforms requested but result is not multi-platform", "": "",
	} {
		var mu sync.Mutex
		var warnings []string
		o := Options{Spec: buildspec.Spec{Outputs: []buildspec.Output{{Type: buildspec.OutputNone}}}, Events: func(st *solver.Status) {
			mu.Lock()
			defer mu.Unlock()
			for _, w := range st.Warnings {
				warnings = append(warnings, string(w.Short))
			}
		}}
		if asked != "" {
			o.Attrs = map[string]string{"platform": asked}
		}
		buildFrontend(t, o, func(client.Reference, *client.Result) {})
		if got := strings.Join(warnings, "\n"); got != want {
			t.Errorf("%q: warnings %q, want %q", asked, got, want)
		}
	}
}

// TestFrontendAttestations: the attestations of a front end are beside its image, and its own list of packages has the layers of the files.
func TestFrontendAttestations(t *testing.T) {
	t.Parallel()
	outputs, err := buildspec.ParseOutputs([]string{"type=oci,dest=x", "type=tar,dest=y"})
	if err != nil {
		t.Fatal(err)
	}
	_, files := buildFrontend(t, Options{Spec: buildspec.Spec{Outputs: outputs}}, func(_ client.Reference, res *client.Result) {
		content := &resultRef{result: &solver.Result{Local: view.Files(map[string][]byte{
			"extra.json": []byte(`{"a":1}`), "own.spdx.json": []byte(`{"files":[{"fileName":"/f"}]}`),
		})}}
		res.AddAttestation(platforms.Format(platforms.DefaultSpec()), client.Attestation{
			Kind: gwpb.AttestationKind_InToto, Ref: content, Path: "/extra.json", InToto: result.InTotoAttestation{PredicateType: "p"},
			Metadata: map[string][]byte{result.AttestationInlineOnlyKey: []byte("true")},
		})
		res.AddAttestation(platforms.Format(platforms.DefaultSpec()), client.Attestation{
			Kind: gwpb.AttestationKind_InToto, Ref: content, Path: "/own.spdx.json", InToto: result.InTotoAttestation{PredicateType: sbom.PredicateSPDX},
			Metadata: map[string][]byte{result.AttestationSBOMCore: []byte("own")},
		})
	})
	archive, found := members(t, files["x"]), map[string]bool{}
	for _, data := range archive {
		found["extra"] = found["extra"] || strings.Contains(data, `"predicate":{"a":1}`)
		found["layer"] = found["layer"] || strings.Contains(data, `"comment":"layerID: sha256:`)
	}
	if !found["extra"] || !found["layer"] {
		t.Errorf("attestations %v", found)
	}
	plain := members(t, files["y"])
	if _, ok := plain["extra.json"]; ok || !strings.Contains(plain["own.spdx.json"], `"subject":[{"name":"f"`) {
		t.Errorf("files %v", plain)
	}
}

// TestPlatformDirectoryTime: the directory of a platform has the time of its files.
func TestPlatformDirectoryTime(t *testing.T) {
	t.Parallel()
	dir := writeFiles(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
	spec := buildspec.Spec{BuildArgs: map[string]string{"SOURCE_DATE_EPOCH": "60"}}
	_, archives := mustBuild(t, newBuilder(t), dir, spec, "type=tar,dest=x,platform-split=true")
	h, err := tar.NewReader(archives["x"]).Next()
	if err != nil || h.Typeflag != tar.TypeDir || h.ModTime.Unix() != 60 {
		t.Errorf("%+v, %v", h, err)
	}
}

// TestPlatformsOfOutput: an output may say which platform a result is for.
func TestPlatformsOfOutput(t *testing.T) {
	t.Parallel()
	single := &response{platforms: []*built{{id: "linux/amd64", platform: amd64}}, attester: &attester{}}
	several := &response{several: true, attester: &attester{}, platforms: []*built{
		{id: "linux/amd64", platform: amd64}, {id: "linux/arm64", platform: ocispec.Platform{OS: "linux", Architecture: "arm64"}},
	}}
	const arm = `{"Platforms":[{"ID":"linux/arm64","Platform":{"os":"linux","architecture":"arm64"}}]}`
	for name, c := range map[string]struct {
		of   *response
		meta string
		want string // the architecture, and that of the config
		err  string
	}{
		"single":               {of: single, meta: arm, want: "arm64 arm64"},
		"one of several":       {of: several, meta: arm, want: "arm64 arm64"},
		"none of several":      {of: several, meta: strings.ReplaceAll(arm, "arm64", "riscv64"), err: "the build has no result for linux/riscv64"},
		"no list":              {of: single, meta: "{", err: "metadata of the output: failed to parse platforms"},
		"an empty list":        {of: single, meta: `{"Platforms":[]}`, err: "metadata of the output: invalid empty platforms"},
		"a platform is no one": {of: single, meta: `{"Platforms":[{}]}`, err: "metadata of the output: invalid empty platform key"},
	} {
		outputs, err := buildspec.ParseOutputs([]string{`type=image,"refs.platforms=` + strings.ReplaceAll(c.meta, `"`, `""`) + `"`})
		if err != nil || len(outputs[0].Unused) > 0 {
			t.Fatalf("%+v, %v", outputs, err)
		}
		got, err := c.of.forOutput(&outputs[0])
		if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", name, err, c.err)
		}
		if err != nil {
			continue
		}
		var config ocispec.Image
		if err := json.Unmarshal(got.platforms[0].config, &config); err != nil || len(got.platforms) != 1 {
			t.Fatal(err)
		}
		if arch := got.platforms[0].platform.Architecture + " " + config.Architecture; arch != c.want {
			t.Errorf("%s: %s, want %s", name, arch, c.want)
		}
	}
	if single.platforms[0].platform.Architecture != "amd64" {
		t.Error("the output has changed the result")
	}
}

// TestSortParameters: the parameters of a scanner are in order, whichever it got them in, and other variables stay where they are.
func TestSortParameters(t *testing.T) {
	t.Parallel()
	orders := [][]string{
		{"Z=", "BUILDKIT_SCAN_DESTINATION=/out", "BUILDKIT_SCAN_SOURCE=/in", "BUILDKIT_SCAN_C=3", "BUILDKIT_SCAN_A=1", "BUILDKIT_SCAN_B=2"},
		{"Z=", "BUILDKIT_SCAN_DESTINATION=/out", "BUILDKIT_SCAN_SOURCE=/in", "BUILDKIT_SCAN_B=2", "BUILDKIT_SCAN_C=3", "BUILDKIT_SCAN_A=1"},
	}
	want := []string{"Z=", "BUILDKIT_SCAN_DESTINATION=/out", "BUILDKIT_SCAN_SOURCE=/in", "BUILDKIT_SCAN_A=1", "BUILDKIT_SCAN_B=2", "BUILDKIT_SCAN_C=3"}
	var heads []string
	for _, env := range orders {
		opts := []llb.RunOption{llb.Args([]string{"scan"})}
		for _, kv := range env {
			k, v, _ := strings.Cut(kv, "=")
			opts = append(opts, llb.AddEnv(k, v))
		}
		def, err := llb.Image("scanner").Run(opts...).Root().File(llb.Mkfile("/x", 0o644, nil)).Marshal(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got, err := sortParameters(def.ToPB())
		if err != nil {
			t.Fatal(err)
		}
		heads = append(heads, headOf(got).String())
		for _, raw := range got.Def {
			var op pb.Op
			if err := op.UnmarshalVT(raw); err != nil {
				t.Fatal(err)
			}
			if e := op.GetExec(); e != nil && !slices.Equal(e.Meta.Env, want) {
				t.Errorf("%q, want %q", e.Meta.Env, want)
			}
		}
	}
	if heads[0] == "" || heads[0] != heads[1] {
		t.Errorf("%q", heads)
	}
}
