package builder

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/result"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/attest"
	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/certs"
	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/transfer"
	"github.com/micabuild/mica/internal/view"
)

// TestLayerForms: the blobs of an image are in the form that the output asks for, and the store's are used if that is allowed.
func TestLayerForms(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	dir := writeFiles(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY a /\nCOPY a /b\n", "a": strings.Repeat("a", 10_000)})
	const tarType, gzipType, zstdType = ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd
	for _, c := range []struct{ output, want string }{
		{"", tarType}, {"compression=uncompressed", tarType}, {"compression=gzip", gzipType}, {"compression=zstd", zstdType},
		{"compression=zstd,force-compression=true", zstdType}, {"compression=gzip,compression-level=9,force-compression=true", gzipType},
		{"compression=estargz,force-compression=true", gzipType}, {"oci-mediatypes=false,compression=gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip"},
		{"oci-mediatypes=false,compression=zstd", "application/vnd.docker.image.rootfs.diff.tar.zstd"},
	} {
		res, archives := mustBuild(t, b, dir, buildspec.Spec{}, strings.TrimSuffix("type=oci,dest=x,"+c.output, ","))
		all := members(t, archives["x"])
		var m ocispec.Manifest
		if err := json.Unmarshal([]byte(all["blobs/sha256/"+res.Root.Digest.Encoded()]), &m); err != nil {
			t.Fatal(err)
		}
		var config ocispec.Image
		if err := json.Unmarshal([]byte(all["blobs/sha256/"+m.Config.Digest.Encoded()]), &config); err != nil {
			t.Fatal(err)
		}
		for i, l := range m.Layers {
			if l.MediaType != c.want {
				t.Errorf("%s: layer %d is %s, want %s", c.output, i, l.MediaType, c.want)
			}
			data := []byte(all["blobs/sha256/"+l.Digest.Encoded()])
			r, _, err := compression.NewReader(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			plain, err := io.ReadAll(r)
			if err != nil || digest.FromBytes(plain) != config.RootFS.DiffIDs[i] || digest.FromBytes(data) != l.Digest {
				t.Errorf("%s: layer %d is not the one of its DiffID: %v", c.output, i, err)
			}
			h, err := tar.NewReader(bytes.NewReader(plain)).Next()
			if err != nil || h.Name == "" {
				t.Errorf("%s: layer %d: %v", c.output, i, err)
			}
		}
	}
}

// TestNamesByDigest: an image may get names with its digest, beside its own or in their place.
func TestNamesByDigest(t *testing.T) {
	t.Parallel()
	dir := writeFiles(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "a"})
	for _, c := range []struct {
		output         string
		named, missing []string // "@" is replaced by the digest
	}{
		{"name=app:1", []string{"app:1"}, []string{"left@"}},
		{"name=app:1,name-canonical=true", []string{"app:1", "app@"}, nil},
		{"dangling-name-prefix=left", []string{"left@"}, nil},
		{"name=app:1,dangling-name-prefix=left", []string{"app:1", "left@"}, nil},
		{"name=app:1,dangling-name-prefix=left,danging-name-empty-only=true", []string{"app:1"}, []string{"left@"}},
	} {
		b := newBuilder(t)
		res, _ := mustBuild(t, b, dir, buildspec.Spec{}, "type=image,"+c.output)
		full := func(name string) string {
			if strings.HasSuffix(name, "@") {
				name += res.Root.Digest.String()
			}
			return name
		}
		for _, name := range c.named {
			if img, err := b.Images.Find(t.Context(), full(name)); err != nil || img.ID != res.Image.ID {
				t.Errorf("%s: %s: %v", c.output, name, err)
			}
		}
		for _, name := range c.missing {
			if img, err := b.Images.Find(t.Context(), full(name)); err == nil {
				t.Errorf("%s: %s is %s", c.output, name, img.ID)
			}
		}
	}
}

func TestNeedsNoLayers(t *testing.T) {
	t.Parallel()
	for output, want := range map[string]bool{
		"type=image": false, "type=image,push=true": false, "type=oci,dest=x": false, "type=local,dest=x": false,
		"type=registry": true, "type=cacheonly": true,
		"type=registry,compression=zstd,force-compression=true": false,
		"type=registry,compression=estargz":                     false,
		"type=registry,rewrite-timestamp=true":                  false,
	} {
		list, err := buildspec.ParseOutputs([]string{output})
		if err != nil {
			t.Errorf("%s: %v", output, err)
			continue
		}
		if got := needsNoLayers(&list[0]); got != want {
			t.Errorf("%s: %t, want %t (%+v)", output, got, want, list[0])
		}
	}
	for to, want := range map[string]bool{"": false, "type=inline": false, "type=local,dest=x": true, "r/cache": true} {
		caches, err := buildspec.ParseCaches([]string{to}, true)
		if err != nil {
			t.Fatal(err)
		}
		o := &Options{Spec: buildspec.Spec{CacheTo: caches}}
		if got := o.exportsCache(); got != want {
			t.Errorf("cache to %q: %t", to, got)
		}
	}
	for mediaType, want := range map[string]bool{
		ocispec.MediaTypeImageLayer: false, ocispec.MediaTypeImageLayerGzip: true, ocispec.MediaTypeImageLayerZstd: true,
		"application/vnd.docker.image.rootfs.diff.tar.gzip": true, "application/vnd.docker.image.rootfs.diff.tar": false,
	} {
		if got := compressed(ocispec.Descriptor{MediaType: mediaType}); got != want {
			t.Errorf("%s: %t", mediaType, got)
		}
	}
}

// TestPlainImages: a base image whose layers cannot be unpacked, or whose config does not match them, is pulled at once.
func TestPlainImages(t *testing.T) {
	t.Parallel()
	id := digest.FromString("x")
	layer := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: id, Size: 1}
	config := `{"rootfs":{"type":"layers","diff_ids":["` + id.String() + `"]}}`
	for name, c := range map[string]struct {
		config     string
		configType string
		layers     []ocispec.Descriptor
		want       bool
	}{
		"image":             {config, ocispec.MediaTypeImageConfig, []ocispec.Descriptor{layer}, true},
		"too few layers":    {config, ocispec.MediaTypeImageConfig, nil, false},
		"not an image":      {config, "application/x", []ocispec.Descriptor{layer}, false},
		"not a layer":       {config, ocispec.MediaTypeImageConfig, []ocispec.Descriptor{{MediaType: "application/x", Digest: id}}, false},
		"no digest":         {config, ocispec.MediaTypeImageConfig, []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: "x"}}, false},
		"config is no JSON": {"x", ocispec.MediaTypeImageConfig, []ocispec.Descriptor{layer}, false},
	} {
		img := &transfer.PublishedImage{RawConfig: []byte(c.config)}
		img.Manifest.Config.MediaType, img.Manifest.Layers = c.configType, c.layers
		if got := isPlain(img); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestResponses(t *testing.T) {
	t.Parallel()
	two := `{"Platforms":[{"ID":"linux/amd64","Platform":{"architecture":"amd64","os":"linux"}},{"ID":"linux/arm64","Platform":{"architecture":"arm64","os":"linux"}}]}`
	res := func(meta map[string]string, refs ...string) *client.Result {
		r := client.NewResult()
		for k, v := range meta {
			r.AddMeta(k, []byte(v))
		}
		if len(refs) == 0 {
			r.SetRef((*resultRef)(nil))
		}
		for _, id := range refs {
			r.AddRef(id, &resultRef{result: &solver.Result{Local: view.Empty()}})
		}
		return r
	}
	const config, base, epoch = exptypes.ExporterImageConfigKey, exptypes.ExporterImageBaseConfigKey, "source.date.epoch"
	for name, c := range map[string]struct {
		res  *client.Result
		err  string
		want []string // the directories of the platforms
	}{
		"one":          {res: res(map[string]string{config: "{}"}), want: []string{""}},
		"two":          {res: res(map[string]string{exptypes.ExporterPlatformsKey: two, config + "/linux/amd64": "{}", config + "/linux/arm64": "{}"}, "linux/amd64", "linux/arm64"), want: []string{"linux_amd64", "linux_arm64"}},
		"no config":    {res: res(nil), want: []string{""}},
		"one is lost":  {res: res(map[string]string{exptypes.ExporterPlatformsKey: two, config + "/linux/amd64": "{}"}, "linux/amd64", "linux/s390x"), err: "the build has no result for linux/arm64"},
		"no platform":  {res: res(map[string]string{exptypes.ExporterPlatformsKey: `{"Platforms":[]}`}), err: "invalid empty platforms index for exporter"},
		"base":         {res: res(map[string]string{config: "{}", base: "[]"}), err: "config of the base image: "},
		"epoch":        {res: res(map[string]string{config: "{}", epoch: "x"}), err: `invalid SOURCE_DATE_EPOCH: "x" is not a number of seconds`},
		"not a list":   {res: res(map[string]string{exptypes.ExporterPlatformsKey: "x"}), err: "failed to parse platforms"},
		"base and all": {res: res(map[string]string{config: "{}", base: "{}", epoch: "5"}), want: []string{""}},
	} {
		got, err := newResponse(c.res)
		if (err != nil) != (c.err != "") || err != nil && !strings.HasPrefix(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", name, err, c.err)
			continue
		}
		if err != nil {
			continue
		}
		var dirs []string
		for _, p := range got.platforms {
			dir := p.directory()
			if !got.several {
				dir = ""
			}
			dirs = append(dirs, dir)
		}
		if diff := cmp.Diff(c.want, dirs); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if name == "no config" && !strings.Contains(string(got.platforms[0].config), `"WorkingDir":"/"`) {
			t.Errorf("%s: %s", name, got.platforms[0].config)
		}
		if name == "base and all" && (got.platforms[0].base == nil || got.platforms[0].epoch.Unix() != 5) {
			t.Errorf("%s: %+v", name, got.platforms[0])
		}
	}
}

// TestScannerResults: the statements that scanners leave are attestations of the platform.
func TestScannerResults(t *testing.T) {
	t.Parallel()
	const kind = "https://spdx.dev/Document"
	files := view.Files(map[string][]byte{"out/sbom.json": []byte(`{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"` + kind + `","predicate":{"a":1}}`)})
	ref := &resultRef{result: &solver.Result{Local: files}}
	bundle := func(kind gwpb.AttestationKind, path, predicate string) result.Attestation[client.Reference] {
		return result.Attestation[client.Reference]{Kind: kind, Ref: ref, Path: path, InToto: result.InTotoAttestation{PredicateType: predicate}}
	}
	a := &attester{}
	p := &built{bundles: []result.Attestation[client.Reference]{bundle(gwpb.AttestationKind_Bundle, "/out", kind), bundle(gwpb.AttestationKind_InToto, "/out/sbom.json", "x")}}
	if a.hasAny(&response{platforms: []*built{p}}) {
		t.Error("attestations before they are collected")
	}
	if err := a.collect(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if !a.hasAny(&response{platforms: []*built{p}}) || len(p.attestations) != 2 || p.attestations[1].PredicateType != "x" || p.attestations[0].PredicateType != kind || p.attestations[0].Name != "sbom.json" {
		t.Errorf("%+v", p.attestations)
	}
	for want, b := range map[string]result.Attestation[client.Reference]{
		"attestation sbom.json is of type " + kind + ", not other": bundle(gwpb.AttestationKind_Bundle, "/out", "other"),
		"a front end cannot make provenance":                       bundle(gwpb.AttestationKind_InToto, "/out/sbom.json", attest.ProvenanceV1),
		"open /no: file does not exist":                            bundle(gwpb.AttestationKind_Bundle, "/no", ""),
	} {
		if err := a.collect(t.Context(), &built{bundles: []result.Attestation[client.Reference]{b}}); text(err) != want {
			t.Errorf("%v, want %q", err, want)
		}
	}
	list, err := a.attestations(t.Context(), &built{attestations: []*attest.Attestation{{Name: "x"}}}, nil)
	if err != nil || len(list) != 1 {
		t.Errorf("without provenance: %v, %v", list, err)
	}
}

func TestHostCertsOfABuild(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	off, err := b.hostCerts(false)
	if err != nil || off.mount != nil || off.remove() != nil {
		t.Errorf("%+v, %v", off, err)
	}
	if _, err := certs.Host(); err != nil {
		t.Fatal("this host has no certificates (make setup installs them): ", err)
	}
	on, err := b.hostCerts(true)
	if err != nil {
		t.Fatal(err)
	}
	env := on.mount.Env([]string{"A=1"})
	if on.mount.Target != certsTarget || len(env) < 2 || env[0] != "A=1" || len(filesBelow(t, on.mount.Source)) == 0 {
		t.Errorf("%+v, %q", on.mount, env)
	}
	if err := on.remove(); err != nil || len(filesBelow(t, b.Store.Path("tmp"))) != 0 {
		t.Errorf("left: %v, %v", filesBelow(t, b.Store.Path("tmp")), err)
	}
}

// TestLayouts: how a named context names an image of a layout.
func TestLayouts(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	layout := t.TempDir()
	dir := writeFiles(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "a"})
	platforms, err := buildspec.ParsePlatforms([]string{"linux/amd64,linux/arm64"})
	if err != nil {
		t.Fatal(err)
	}
	res, _ := mustBuild(t, b, dir, buildspec.Spec{Tags: []string{"app:1"}, Platforms: platforms}, "type=oci,tar=false,dest="+layout)
	d := res.Root.Digest.String()
	for name, want := range map[string]string{
		layout: "", layout + ":1": "", layout + "@" + d: "", layout + ":ignored@" + d: "",
		layout + ":2":                     "it has no image named 2",
		layout + "@" + d[:len(d)-1] + "x": "it has no image named sha256:",
		layout + "/no":                    "no such file or directory",
	} {
		opts := map[string]string{}
		ls, err := b.openLayouts(t.Context(), map[string]string{"base": "oci-layout://" + name, "dir": "/d"}, opts, nil)
		if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
		if err != nil {
			continue
		}
		if got := opts["context:base"]; got != "oci-layout://layout0@"+d || len(opts) != 1 {
			t.Errorf("%s: options %v", name, opts)
		}
		testLayout(t, ls, res.Root.Digest)
		if err := ls.close(); err != nil {
			t.Error(err)
		}
	}
}

// testLayout finds the images of the platforms of a layout, and no others.
func testLayout(t *testing.T, ls *layouts, root digest.Digest) {
	t.Helper()
	arm := ocispec.Platform{OS: "linux", Architecture: "arm64"}
	if _, err := ls.find(t.Context(), "", "", root, &arm); err == nil || !strings.Contains(err.Error(), "was not resolved") {
		t.Errorf("before it is resolved: %v", err)
	}
	img, err := ls.resolve(t.Context(), "", "layout0", "", &arm)
	if err != nil || img.Config.Architecture != "arm64" {
		t.Errorf("%v, %v", img, err)
	}
	if again, err := ls.resolve(context.Background(), "", "layout0", "", &arm); err != nil || again != img {
		t.Errorf("resolved again: %v, %v", again, err)
	}
	if found, err := ls.find(t.Context(), "", "", root, &arm); err != nil || found != img {
		t.Errorf("%v, %v", found, err)
	}
	if _, err := ls.resolve(t.Context(), "", "layout0", "", &ocispec.Platform{OS: "linux", Architecture: "s390x"}); err == nil || !strings.Contains(err.Error(), "index "+root.String()) {
		t.Errorf("%v", err)
	}
	if _, err := ls.resolve(t.Context(), "", "layout1", "", nil); text(err) != "unknown layout layout1" {
		t.Errorf("%v", err)
	}
}
