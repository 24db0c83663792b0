package oci

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Digests that must not become part of a path, or be taken apart without a check.
var oddDigests = []string{"", "x", ":", "sha256:", "sha256:x", "sha256", "SHA256:" + zeros, "sha256:" + strings.ToUpper(hexes), "sha256:../../etc/passwd",
	"sha512:" + zeros + zeros, "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:" + zeros + "0", "sha256:" + zeros + "\x00", "../" + zeros}

const (
	zeros = "0000000000000000000000000000000000000000000000000000000000000000"
	hexes = "abcdefabcdefabcdefabcdefabcdefabcdefabcdefabcdefabcdefabcdefabcd"
)

func TestParseManifest(t *testing.T) {
	const good = `{"digest":"sha256:` + zeros + `","size":3}`
	for text, problem := range map[string]string{
		`{"config":` + good + `,"layers":[` + good + `]}`:                                "",
		`{"config":` + good + `}`:                                                        "",
		`{"config":` + good + `,"layers":[{"digest":"sha256:` + zeros + `","size":-1}]}`: "layer 1: sha256:" + zeros + " has the invalid size -1",
		`{"config":` + good + `,"manifests":[]}`:                                         "as an index does",
		`{"mediaType":"application/vnd.oci.image.index.v1+json","config":` + good + `}`:  "says that its type is",
		`{"layers":[` + good + `]}`:                                                      `config: invalid digest ""`,
		`{"config":null,"layers":null}`:                                                  `config: invalid digest ""`,
		`{"config":` + good + `,"layers":[null]}`:                                        `layer 1: invalid digest ""`,
		`[]`:   "cannot unmarshal",
		`null`: `config: invalid digest ""`,
		`{"config":` + good + `,"layers":[{"digest":"sha256:` + zeros + `","size":1e400}]}`: "cannot unmarshal",
	} {
		_, err := ParseManifest("sha256:m", []byte(text))
		if (err == nil) != (problem == "") || err != nil && !strings.Contains(err.Error(), problem) {
			t.Errorf("%s: %v, want %q", text, err, problem)
		}
	}
}

func TestOddDigests(t *testing.T) {
	for _, odd := range oddDigests {
		if CheckDigest(digest.Digest(odd)) == nil {
			t.Errorf("%q is valid", odd)
		}
	}
	if _, err := DiffIDs([]byte(`{"rootfs":{"diff_ids":["sha256:` + zeros + `","x"]}}`)); err == nil || !strings.Contains(err.Error(), `layer 2: invalid digest "x"`) {
		t.Errorf("%v", err)
	}
}

// FuzzDocuments reads a document as each of those that it may say it is: what is accepted has digests that may become part of a
// path, and sizes that may be counted.
func FuzzDocuments(f *testing.F) {
	const good = `"sha256:` + zeros + `"`
	digests := []string{`""`, `null`, `7`, `{}`}
	for _, odd := range oddDigests {
		raw, err := json.Marshal(odd)
		if err != nil {
			f.Fatal(err)
		}
		digests = append(digests, string(raw))
	}
	for _, odd := range digests {
		f.Add(`{"config":{"digest":` + odd + `},"layers":[{"digest":` + odd + `}]}`)
		f.Add(`{"config":{"digest":` + good + `},"layers":[{"digest":` + odd + `}]}`)
		f.Add(`{"manifests":[{"digest":` + odd + `}]}`)
		f.Add(`{"rootfs":{"diff_ids":[` + good + `,` + odd + `]}}`)
	}
	for _, size := range []string{"-1", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "1e400", "1.5", `"3"`, "null"} {
		f.Add(`{"config":{"digest":` + good + `,"size":` + size + `},"layers":[{"digest":` + good + `,"size":` + size + `}]}`)
		f.Add(`{"manifests":[{"digest":` + good + `,"size":` + size + `}]}`)
	}
	index := `{"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","digest":` + good + `}]}`
	for _, raw := range []string{
		index, `{"manifests":[` + index + `]}`, `{"manifests":[null]}`, `{"manifests":{}}`, `{"manifests":[],"Config":{}}`, `{"config":{"digest":` + good + `},"CONFIG":{"digest":"x"}}`,
		`null`, `[]`, `{"rootfs":null}`, `{"rootfs":{"diff_ids":null}}`, `{"rootfs":{"diff_ids":[null]}}`, strings.Repeat(`{"manifests":[`, 5000),
	} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if m, err := ParseManifest("sha256:m", []byte(raw)); err == nil {
			for _, d := range append(m.Layers, m.Config) {
				wantSound(t, d)
			}
		}
		if ids, err := DiffIDs([]byte(raw)); err == nil {
			for _, id := range ids {
				wantSound(t, ocispec.Descriptor{Digest: id})
			}
		}
		index, err := ParseIndex(ocispec.Descriptor{}, []byte(raw))
		if err != nil {
			return
		}
		for _, d := range index.Manifests {
			if CheckDescriptor(d) == nil {
				wantSound(t, d)
			}
		}
	})
}

var soundDigest = regexp.MustCompile(`^sha256:[0-9a-f]{64}\z`)

func wantSound(t *testing.T, d ocispec.Descriptor) {
	t.Helper()
	if !soundDigest.MatchString(d.Digest.String()) || d.Size < 0 {
		t.Errorf("accepted: %q of %d bytes", d.Digest, d.Size)
	}
}
