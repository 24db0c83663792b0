package buildcmd

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/identity"

	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/progress"
	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/redact"
)

// metadata is the content of --metadata-file, under buildx's names.
type metadata map[string]any

// warningsKey has the warnings of the front end.
const warningsKey = "buildx.build.warnings"

// buildMetadata describes the result of a build, or the front end's response to a call.
func buildMetadata(res *builder.Result) (metadata, error) {
	m := metadata{}
	if res.Response != nil {
		for name, value := range res.Response {
			m[name] = string(value)
			if name == "result.json" && json.Valid(value) {
				m[name] = json.RawMessage(value)
			}
		}
		return m, nil
	}
	// Builder and node have the names of Docker's own builder, which buildx uses by default.
	m["buildx.build.ref"] = "default/default/" + cmp.Or(res.Ref, identity.NewID())
	if res.Written {
		m.addImage(res)
	}
	return m, m.addProvenance(res.Provenance)
}

func (m metadata) addImage(res *builder.Result) {
	root := res.Root
	if !oci.IsIndex(root.MediaType) {
		platform := res.Image.Config.Platform
		root.Platform = &platform
		m["containerimage.config.digest"] = res.Image.ID
	}
	m["containerimage.digest"], m["containerimage.descriptor"] = root.Digest, root
	if len(res.Names) > 0 {
		m["image.name"] = strings.Join(res.Names, ",")
	}
}

// addProvenance adds the provenance: without steps and times if BUILDX_METADATA_PROVENANCE is min.
func (m metadata) addProvenance(all map[string]json.RawMessage) error {
	for platform, text := range all {
		var predicate map[string]json.RawMessage
		if err := json.Unmarshal(text, &predicate); err != nil {
			return fmt.Errorf("write metadata: provenance: %w", err)
		}
		if metadataProvenance() == "min" {
			delete(predicate, "buildConfig")
			delete(predicate, "metadata")
		}
		key := "buildx.build.provenance"
		if platform != "" {
			key += "/" + platform
		}
		m[key] = predicate
	}
	return nil
}

// metadataProvenance is the amount of provenance in the metadata: min, max, or "" for none.
func metadataProvenance() string {
	v := os.Getenv("BUILDX_METADATA_PROVENANCE")
	if on, err := strconv.ParseBool(v); v == "disabled" || err == nil && !on {
		return ""
	}
	if v == "max" {
		return v
	}
	return "min"
}

// metadataWarnings are the warnings that the metadata have, each once, if BUILDX_METADATA_WARNINGS asks for them.
func metadataWarnings(display *progress.Build) []*bkclient.VertexWarning {
	if on, err := strconv.ParseBool(os.Getenv("BUILDX_METADATA_WARNINGS")); err != nil || !on {
		return nil
	}
	var list []*bkclient.VertexWarning
	seen := map[string]bool{}
	for _, w := range display.Warnings() {
		shown := *w
		shown.Short = []byte(redact.URLs(string(w.Short)))
		if w.SourceInfo != nil {
			shown.SourceInfo = w.SourceInfo.CloneVT()
			shown.SourceInfo.Data = []byte(redact.URLs(string(w.SourceInfo.Data)))
		}
		// Targets of one Dockerfile have the same warnings.
		alike := shown
		alike.Vertex = ""
		if alike.SourceInfo != nil {
			alike.SourceInfo = shown.SourceInfo.CloneVT()
			alike.SourceInfo.Definition = nil
		}
		text, err := json.Marshal(alike)
		if err == nil && !seen[string(text)] {
			seen[string(text)] = true
			list = append(list, &shown)
		}
	}
	return list
}

// writeMetadata writes the file that --metadata-file names.
func (f *buildFlags) writeMetadata(app *command.App, res *builder.Result, display *progress.Build) error {
	if f.metadataFile == "" {
		return nil
	}
	m, err := buildMetadata(res)
	if err != nil {
		return err
	}
	if list := metadataWarnings(display); res.Response == nil && len(list) > 0 {
		m[warningsKey] = list
	}
	return writeJSON(app, f.metadataFile, m)
}

// writeMetadata writes the file that --metadata-file names: by target, and the warnings of all.
func (f *bakeFlags) writeMetadata(b *baking) error {
	if f.metadataFile == "" {
		return nil
	}
	all, asked := metadata{}, false
	for _, name := range slices.Sorted(maps.Keys(b.results)) {
		res := *b.results[name]
		res.Written = res.Written && !b.targets[name].hidden
		m, err := buildMetadata(&res)
		if err != nil {
			return err
		}
		all[name], asked = m, asked || res.Response != nil
	}
	if list := metadataWarnings(b.display); !asked && len(list) > 0 {
		all[warningsKey] = list
	}
	return writeJSON(b.app, f.metadataFile, all)
}

// writeJSON writes a file that appears when it is complete.
func writeJSON(app *command.App, name string, v any) (err error) {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write metadata: %w", err)
	}
	if name == "-" {
		name = "./-" // a file of that name, as for buildx
	}
	w, err := app.Create(name)
	if err != nil {
		return fmt.Errorf("write metadata: %w", err)
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if _, err := w.Write(data); err != nil {
		return fmt.Errorf("write metadata: %w", err)
	}
	return w.Commit()
}

// checkDirectoryOf refuses a file whose directory does not exist: better before a long build than after.
func checkDirectoryOf(flag, name string) error {
	if name == "" {
		return nil
	}
	dir := filepath.Dir(name)
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("--%s %s: no such directory: %s", flag, name, dir)
	case err != nil:
		return fmt.Errorf("--%s %s: %w", flag, name, err)
	case !info.IsDir():
		return fmt.Errorf("--%s %s: %s is not a directory", flag, name, dir)
	}
	return nil
}
