package attest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	intoto "github.com/in-toto/in-toto-golang/in_toto"
	"github.com/opencontainers/go-digest"
)

// Located is an SBOM of the image that says of each file in which layer it came, where its scanner has left that open, and
// names tool among its creators; any other attestation is as it was (BuildKit, exporter/containerimage/attestations.go).
//
// layerOf gives the blob, compressed as the image has it, of the topmost layer with a file of that path.
func (a *Attestation) Located(tool string, layerOf func(path string) (digest.Digest, bool)) (*Attestation, error) {
	if a.PredicateType != intoto.PredicateSPDX || !a.isCore() {
		return a, nil
	}
	doc, ok := decodeSPDX(a.Predicate)
	if !ok {
		return a, nil // it is not for us to refuse it
	}
	files, _ := doc["files"].([]any)
	for _, f := range files {
		file, ok := f.(map[string]any)
		if comment, _ := file["comment"].(string); !ok || comment != "" {
			continue
		}
		if name, _ := file["fileName"].(string); name != "" {
			if d, ok := layerOf("/" + strings.TrimLeft(strings.TrimPrefix(name, "./"), "/")); ok {
				file["comment"] = "layerID: " + d.String()
			}
		}
	}
	info, ok := doc["creationInfo"].(map[string]any)
	if !ok {
		info = map[string]any{}
		doc["creationInfo"] = info
	}
	creators, _ := info["creators"].([]any)
	info["creators"] = append(creators, "Tool: "+tool)
	predicate, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("write attestation: %w", err)
	}
	located := *a
	located.Predicate = predicate
	return &located, nil
}

// decodeSPDX reads an SPDX document (https://spdx.github.io/spdx-spec/v2.3), numbers as they stand.
func decodeSPDX(raw []byte) (doc map[string]any, ok bool) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&doc); err != nil {
		return nil, false
	}
	version, _ := doc["spdxVersion"].(string)
	return doc, strings.HasPrefix(version, "SPDX-2.")
}
