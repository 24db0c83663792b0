package attest

import (
	"encoding/json"
	"path"

	"github.com/opencontainers/go-digest"
)

// Supplement adds to a list of packages in SPDX the layers of the files that it lists (layerOf returns "" for a file that is in none), and
// the tool that did it. A document in another form is left as it is, and what it says that mica does not know is kept.
func (a *Attestation) Supplement(tool string, layerOf func(path string) (digest.Digest, error)) error {
	var doc, creation map[string]json.RawMessage
	var files []map[string]any
	var creators []string
	if !optional(a.Predicate, &doc) || doc == nil || !optional(doc["files"], &files) || !optional(doc["creationInfo"], &creation) || !optional(creation["creators"], &creators) {
		return nil
	}
	for _, f := range files {
		name, _ := f["fileName"].(string)
		if comment, _ := f["comment"].(string); name == "" || comment != "" {
			continue
		}
		layer, err := layerOf(path.Clean("/" + name)[1:])
		if err != nil {
			return err
		}
		if layer != "" {
			f["comment"] = "layerID: " + layer.String()
		}
	}
	if creation == nil {
		creation = map[string]json.RawMessage{}
	}
	var err error
	if creation["creators"], err = json.Marshal(append(creators, "Tool: "+tool)); err != nil {
		return err
	}
	if doc["creationInfo"], err = json.Marshal(creation); err != nil {
		return err
	}
	if files != nil {
		if doc["files"], err = json.Marshal(files); err != nil {
			return err
		}
	}
	a.Predicate, err = json.Marshal(doc)
	return err
}

// optional decodes a part of a document that it may lack.
func optional(raw json.RawMessage, into any) bool {
	return len(raw) == 0 || json.Unmarshal(raw, into) == nil
}
