//go:build e2e

package parity

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/micabuild/mica/test/compare"
	"github.com/micabuild/mica/test/rig"
)

// TestProvenance compares what both builders attest of the same builds, but for what differs from run to run: times, the
// names of a run and of operations, the digests of what was made, and who built.
func TestProvenance(t *testing.T) {
	mica := rig.NewMica(t)
	mica.Run("load", "-i", peer.base)
	for i, attrs := range []string{"mode=min", "mode=max", "mode=max,version=v0.2", "mode=max,builder-id=https://example.com/me,reproducible=true"} {
		t.Run(attrs, func(t *testing.T) {
			c := readCase(t, "testdata/provenance.txtar", 1000+i)
			c.ownBase = true
			c.Args = append(c.Args, "--attest", "type=provenance,"+attrs)
			c.Opts = append(c.Opts, "attest:provenance="+attrs)
			want, got := c.statement(t, mica)
			if want.Type != got.Type || want.PredicateType != got.PredicateType || len(want.Subject) != len(got.Subject) {
				t.Errorf("a statement %s %s of %d, want %s %s of %d", got.Type, got.PredicateType, len(got.Subject),
					want.Type, want.PredicateType, len(want.Subject))
			}
			if d := cmp.Diff(normal(want.Predicate), normal(got.Predicate)); d != "" {
				t.Errorf("provenance differs (-want +got):\n%s", d)
			}
		})
	}
}

// TestProvenanceOfFiles compares what is attested of files that are put out: each is named.
func TestProvenanceOfFiles(t *testing.T) {
	mica := rig.NewMica(t)
	mica.Run("load", "-i", peer.base)
	c := readCase(t, "testdata/provenance.txtar", 1200)
	c.ownBase = true
	c.Args = append(c.Args, "--attest", "type=provenance,mode=max")
	c.Opts = append(c.Opts, "attest:provenance=mode=max")
	dir := filepath.Join(c.Dir, "..")
	// BuildKit lists the layers of every step that it has packed for some image before: here those of the base image alone.
	if out := rig.Run(t, peer.Command("prune", "--all")); out.Code != 0 {
		t.Fatal(out.Stderr)
	}
	if out := c.withBuildKit(t, "--output", "type=local,attestation-prefix=of-,dest="+dir+"/want"); out.Code != 0 {
		t.Fatalf("buildkit: %s", out.Stderr)
	}
	args := append([]string{"build", "-o", "type=local,attestation-prefix=of-,dest=" + dir + "/got"}, c.Args...)
	if out := c.mica(t, mica, args...); out.Code != 0 {
		t.Fatalf("mica: %s", out.Stderr)
	}
	read := func(name string) (s compare.Statement) {
		data, err := os.ReadFile(filepath.Join(dir, name, "of-provenance.json"))
		if err == nil {
			err = json.Unmarshal(data, &s)
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	want, got := read("want"), read("got")
	if len(want.Subject) < 10 {
		t.Fatalf("buildkit names %d files", len(want.Subject))
	}
	if d := cmp.Diff(want.Subject, got.Subject); d != "" || want.PredicateType != got.PredicateType {
		t.Errorf("the files that are named differ (-want +got):\n%s", d)
	}
	if d := cmp.Diff(normal(want.Predicate), normal(got.Predicate)); d != "" {
		t.Errorf("provenance differs (-want +got):\n%s", d)
	}
}

// TestProvenanceIsPushed: whatever the layers are to be in the registry, what is said of the image goes with it.
func TestProvenanceIsPushed(t *testing.T) {
	mica := rig.NewMica(t)
	mica.Run("load", "-i", peer.base)
	for i, attrs := range []string{"compression=gzip", "compression=zstd,force-compression=true", "compression=uncompressed,force-compression=true", "compression=estargz,force-compression=true", "oci-mediatypes=false"} {
		name := fmt.Sprintf("%s/attested:%d", peer.registry.Addr, i)
		out := mica.Try(strings.NewReader("FROM base\nRUN echo x >/x\n"), "build", "-o", "type=registry,name="+name+","+attrs, "--provenance=true", "-")
		if out.Code != 0 {
			t.Fatal(out.Stderr)
		}
		var index struct {
			Manifests []struct {
				Digest      string
				Annotations map[string]string
			}
		}
		raw := rig.Must(t, "skopeo", "inspect", "--raw", "--tls-verify=false", "docker://"+name)
		if err := json.Unmarshal([]byte(raw), &index); err != nil {
			t.Fatal(err)
		}
		if list := index.Manifests; len(list) != 2 || list[1].Annotations["vnd.docker.reference.digest"] != list[0].Digest {
			t.Errorf("%s: the registry has %s", attrs, raw)
		}
	}
}

// scanner writes what an SBOM scanner writes (BuildKit, docs/attestations/sbom-protocol.md): how many files it was shown.
const scanner = `FROM $REGISTRY/base:latest
COPY --chmod=755 <<"EOF" /scan
#!/bin/sh
set -e
name=$(basename "$BUILDKIT_SCAN_SOURCE")
cat >"$BUILDKIT_SCAN_DESTINATION/$name.spdx.json" <<END
{"_type": "https://in-toto.io/Statement/v0.1", "predicateType": "https://spdx.dev/Document",
 "predicate": {"SPDXID": "SPDXRef-DOCUMENT", "name": "$name of $(find $BUILDKIT_SCAN_SOURCE -type f | wc -l) files"}}
END
EOF
ENTRYPOINT ["/scan"]
`

// TestSBOM: a scanner is run over what was built, and what it says is attested.
func TestSBOM(t *testing.T) {
	mica := rig.NewMica(t)
	name := peer.registry.Addr + "/scanner:1"
	text := strings.ReplaceAll(scanner, "$REGISTRY", peer.registry.Addr)
	if out := mica.Try(strings.NewReader(text), "build", "--push", "-t", name, "-"); out.Code != 0 {
		t.Fatal(out.Stderr)
	}
	c := readCase(t, "testdata/provenance.txtar", 1100)
	c.ownBase = true
	c.Args = append(c.Args, "--sbom", "generator="+name)
	c.Opts = append(c.Opts, "attest:sbom=generator="+name)
	want, got := c.statement(t, mica)
	if want.PredicateType != got.PredicateType || len(want.Subject) != len(got.Subject) || want.Predicate["name"] != got.Predicate["name"] {
		t.Errorf("%s of %v says %v, want %s of %v: %v", got.PredicateType, got.Subject, got.Predicate, want.PredicateType, want.Subject, want.Predicate)
	}
	if name, _ := got.Predicate["name"].(string); !strings.HasPrefix(name, "sbom of ") || strings.HasPrefix(name, "sbom of 0") {
		t.Errorf("the scanner says %q", name)
	}
}

// statement builds c with both.
func (c *testCase) statement(t *testing.T, m *rig.Mica) (want, got compare.Statement) {
	t.Helper()
	wantTar, gotTar := filepath.Join(c.Dir, "..", "want.tar"), filepath.Join(c.Dir, "..", "got.tar")
	if out := c.withBuildKit(t, "--output", c.output("name=example.com/app:1,dest="+wantTar)); out.Code != 0 {
		t.Fatalf("buildkit: %s", out.Stderr)
	}
	c.Attrs = append(c.Attrs, "name=example.com/app:1")
	if out := c.withMica(t, m, gotTar); out.Code != 0 {
		t.Fatalf("mica: %s", out.Stderr)
	}
	var both [2]compare.Statement
	for i, file := range []string{wantTar, gotTar} {
		index, err := compare.ReadIndex(file)
		if err != nil {
			t.Fatal(err)
		}
		if len(index.Statements) != 1 {
			t.Fatalf("%s: %d statements", filepath.Base(file), len(index.Statements))
		}
		both[i] = index.Statements[0]
	}
	return both[0], both[1]
}

var (
	anyDigest = regexp.MustCompile(`^(sha256:)?[0-9a-f]{64}$`)
)

// normal takes out of a document what no two builds have in common.
func normal(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, e := range v {
			switch k {
			case "startedOn", "finishedOn", "invocationId", "buildStartedOn", "buildFinishedOn", "buildInvocationID", "invocationID",
				"root", // the request once more, where a client ran the front end: with mica there is no other
				"compatibilityVersion", "dockerfileVersion", "digestMapping", "local.sharedkeyhint", "local.session", "size", "caps":
				continue
			}
			if anyDigest.MatchString(k) {
				k = "digest"
			}
			out[k] = normal(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = normal(e)
		}
		return out
	case string:
		if anyDigest.MatchString(v) {
			return "digest"
		}
		return v
	case float64, bool, nil:
		return v
	}
	data, _ := json.Marshal(v)
	return string(data)
}
