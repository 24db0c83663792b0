//go:build e2e

package hurt

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// oddLayout is an OCI archive of one whole image, in which the descriptor at one place is another. Whatever has the descriptor is
// called by the digest that it has then, so that the fault is the only one.
func oddLayout(t *testing.T, place string, odd map[string]any) []byte {
	t.Helper()
	members := []member{{name: "oci-layout", data: `{"imageLayoutVersion":"1.0.0"}`}}
	add := func(kind, mediaType string, data []byte) map[string]any {
		members = append(members, member{name: "blobs/sha256/" + rig.Sum(data), data: string(data)})
		d := map[string]any{"mediaType": mediaType, "digest": "sha256:" + rig.Sum(data), "size": len(data)}
		if kind == place {
			for k, v := range odd {
				d[k] = v
			}
		}
		return d
	}
	text := func(v any) []byte {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	tar := tarOf(t, member{name: "f", data: "content that is not in the store"})
	layer := add("layer", "application/vnd.oci.image.layer.v1.tar", tar)
	id := any("sha256:" + rig.Sum(tar))
	if place == "DiffID" {
		id = odd["digest"]
	}
	config := add("config", "application/vnd.oci.image.config.v1+json", text(map[string]any{
		"architecture": "amd64", "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": []any{id}},
	}))
	manifest := add("manifest", "application/vnd.oci.image.manifest.v1+json", text(map[string]any{"schemaVersion": 2, "config": config, "layers": []any{layer}}))
	members = append(members, member{name: "index.json", data: string(text(map[string]any{"schemaVersion": 2, "manifests": []any{manifest}}))})
	return tarOf(t, members...)
}

// A digest or a size that is not one is refused wherever it stands, before anything is called after it.
func TestOddDescriptors(t *testing.T) {
	p := newPatient(t)
	zeros := strings.Repeat("0", 64)
	odd := map[string]map[string]any{
		"a letter": {"digest": "x"}, "nothing": {"digest": ""}, "null": {"digest": nil}, "a colon": {"digest": ":"}, "no hex": {"digest": "sha256:"},
		"a path": {"digest": "sha256:../../../../etc/passwd"}, "another algorithm": {"digest": "sha512:" + zeros + zeros}, "capitals": {"digest": "sha256:" + strings.Repeat("A", 64)},
		"a NUL": {"digest": "sha256:" + zeros + "\x00"}, "another blob": {"digest": "sha256:" + zeros},
		"a negative size": {"size": -1}, "a huge size": {"size": int64(1) << 62}, "a size that is text": {"size": "many"}, "a size of more bits": {"size": json.Number("1e30")},
	}
	good := filepath.Join(rig.TempDir(t), "good.tar")
	if err := os.WriteFile(good, oddLayout(t, "", nil), 0o644); err != nil {
		t.Fatal(err)
	}
	rig.NewMica(t).Run("load", "-q", "-i", good)
	for _, place := range []string{"layer", "config", "manifest", "DiffID"} {
		for name, fields := range odd {
			if _, isDigest := fields["digest"]; place == "DiffID" && !isDigest {
				continue
			}
			t.Run(place+" is "+name, func(t *testing.T) {
				p := &patient{t, p.Mica}
				archive := oddLayout(t, place, fields)
				p.refuses(1, `^Error: `, bytes.NewReader(archive), "load")
				dir := rig.TempDir(t)
				file := filepath.Join(dir, "odd.tar")
				if err := os.WriteFile(file, archive, 0o644); err != nil {
					t.Fatal(err)
				}
				if place == "DiffID" {
					return // copies do not look into configs
				}
				p.refuses(1, `^Error: `, nil, "copy", "oci-archive:"+file, "docker-archive:"+filepath.Join(dir, "copy.tar"))
			})
		}
	}
	p.healthy()
}
