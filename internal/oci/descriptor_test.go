package oci

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
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
