package builder

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/redact"
)

// finishConfig completes the compiler's config with the DiffIDs of the finished layers and the times of the history. It follows BuildKit's exporter (exporter/containerimage/writer.go: normalizeLayersAndHistory and
// patchImageConfig), so that the same Dockerfile gives the same config; fields that mica does not know are kept.
// No time is later than epoch, except in the history of the base image; nil is no limit.
func finishConfig(config []byte, chain []buildcache.Link, epoch *time.Time, base *ocispec.Image) ([]byte, error) {
	fields, err := configFields(config)
	if err != nil {
		return nil, err
	}
	var history []ocispec.History
	if raw, ok := fields["history"]; ok {
		if err := json.Unmarshal(raw, &history); err != nil {
			return nil, fmt.Errorf("image config: history: %w", err)
		}
	}
	history = finishHistory(history, chain)
	clampHistory(history, epoch, base)
	set := map[string]any{"rootfs": rootFS(chain), "history": history}
	if raw, ok := fields["created"]; !ok {
		set["created"] = lastCreated(history)
	} else if epoch != nil {
		var at time.Time
		if err := json.Unmarshal(raw, &at); err != nil {
			return nil, fmt.Errorf("image config: created: %w", err)
		}
		set["created"] = earlier(&at, epoch)
	}
	for name, value := range set {
		raw, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("image config: %s: %w", name, err)
		}
		fields[name] = raw
	}
	return json.Marshal(fields)
}

func rootFS(chain []buildcache.Link) ocispec.RootFS {
	fs := ocispec.RootFS{Type: "layers"}
	for _, l := range chain {
		fs.DiffIDs = append(fs.DiffIDs, l.DiffID)
	}
	return fs
}

// setLayers replaces the layers of a config.
func setLayers(config []byte, chain []buildcache.Link) ([]byte, error) {
	fields, err := configFields(config)
	if err != nil {
		return nil, err
	}
	if fields["rootfs"], err = json.Marshal(rootFS(chain)); err != nil {
		return nil, fmt.Errorf("image config: %w", err)
	}
	return json.Marshal(fields)
}

// configFields parses a config. That of a front end may be anything.
func configFields(config []byte) (map[string]json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(config, &fields); err != nil {
		return nil, fmt.Errorf("image config: %w", err)
	}
	if fields == nil { // null
		return nil, errors.New("invalid null image config for export")
	}
	return fields, nil
}

// clampHistory sets times that are later than the epoch to it, from the first entry on that is not the base image's.
func clampHistory(history []ocispec.History, epoch *time.Time, base *ocispec.Image) {
	if epoch == nil {
		return
	}
	ofBase := base != nil
	for i := range history {
		ofBase = ofBase && i < len(base.History) && reflect.DeepEqual(history[i], base.History[i])
		if !ofBase {
			history[i].Created = earlier(history[i].Created, epoch)
		}
	}
}

// finishHistory makes the history match the layers: one entry for each that is not empty, and a time in every entry.
func finishHistory(history []ocispec.History, chain []buildcache.Link) []ocispec.History {
	layers := 0
	for i := range history {
		if history[i].EmptyLayer {
			continue
		}
		if layers == len(chain) {
			history[i].EmptyLayer = true
			continue
		}
		layers++
	}
	for _, l := range chain[layers:] {
		history = append(history, ocispec.History{
			Created: created(l), CreatedBy: l.Description, Comment: "buildkit.exporter.image.v0",
		})
	}
	layers = 0
	for i := range history {
		if history[i].EmptyLayer {
			continue
		}
		if history[i].Created == nil {
			history[i].Created = created(chain[layers])
		}
		layers++
	}
	fillCreated(history)
	for i := range history {
		history[i].CreatedBy = redact.URLs(history[i].CreatedBy)
	}
	return history
}

func created(l buildcache.Link) *time.Time {
	if l.Created.IsZero() {
		return nil
	}
	t := l.Created
	return &t
}

// fillCreated gives entries without a layer, and so without a time, that of the first new layer, else of the last entry.
func fillCreated(history []ocispec.History) {
	var at *time.Time
	missing := false
	for _, h := range history {
		if h.Created == nil {
			missing = true
			continue
		}
		at = h.Created
		if missing {
			break
		}
	}
	missing = false
	for i := range history {
		switch {
		case history[i].Created == nil:
			missing = true
			history[i].Created = at
		case missing:
			at = history[i].Created
		}
	}
}

func lastCreated(history []ocispec.History) *time.Time {
	var at *time.Time
	for _, h := range history {
		if h.Created != nil {
			at = h.Created
		}
	}
	return at
}
