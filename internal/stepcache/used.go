package stepcache

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/registry"
)

// UsedType is the type of the manifests that list what a build has used.
const UsedType = "application/vnd.mica.used.v1"

// usedPrefix begins the tag of a list; a day and digits of the digest of the list follow. Builds that use the same records on a day have one list.
const (
	usedPrefix = "used-"
	usedDay    = "20060102"
	usedDigits = 16
)

// maxUsed limits the keys of a list.
const maxUsed = 20_000

// Use notes that a build has used the records with some keys, for Prune.
func (w *Writer) Use(ctx context.Context, keys []digest.Digest) error {
	if len(keys) == 0 {
		return nil
	}
	slices.Sort(keys)
	if keys = slices.Compact(keys); len(keys) > maxUsed {
		keys = keys[:maxUsed]
	}
	list := join(keys)
	tag := usedPrefix + time.Now().UTC().Format(usedDay) + "-" + digest.FromString(list).Encoded()[:usedDigits]
	_, err := w.at.Manifest(ctx, tag)
	if registry.IsNotFound(err) {
		return writeNote(ctx, w.at, UsedType, tag, map[string]string{annotationKeys: list})
	}
	return err
}

// usedAt returns the day of the tag of a list; ok is false for another tag.
func usedAt(tag string) (day time.Time, ok bool) {
	rest, ok := strings.CutPrefix(tag, usedPrefix)
	if !ok || len(rest) < len(usedDay) {
		return time.Time{}, false
	}
	day, err := time.Parse(usedDay, rest[:len(usedDay)])
	return day, err == nil
}

// parseUsed returns the keys of a list.
func parseUsed(raw []byte) ([]digest.Digest, error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	if m.ArtifactType != UsedType {
		return nil, fmt.Errorf("artifactType %.100q", m.ArtifactType)
	}
	return split(m.Annotations[annotationKeys], maxUsed)
}

// writeNote writes a manifest that has only annotations.
func writeNote(ctx context.Context, at Repository, kind, tag string, notes map[string]string) error {
	if err := at.Blob(ctx, empty, empty.Data); err != nil {
		return err
	}
	m := ocispec.Manifest{
		MediaType: ocispec.MediaTypeImageManifest, ArtifactType: kind, Config: empty, Layers: []ocispec.Descriptor{empty}, Annotations: notes,
	}
	m.SchemaVersion = 2
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	d := ocispec.Descriptor{MediaType: m.MediaType, ArtifactType: kind, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	return at.PutTag(ctx, d, raw, tag)
}
