package imagediff

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/inspect"
)

// fieldCreated is the time of an image, and of a line of its history.
const fieldCreated = "created"

// fields are those of a JSON object.
type fields map[string]json.RawMessage

// compareConfig compares configs field by field, unknown fields too, and the annotations of manifests.
func compareConfig(_ context.Context, a, b *inspect.Image, o Options, r *Report) error {
	r.Config = &ConfigReport{Changes: []ConfigChange{}}
	oldFields, err := configFields(a.RawConfig)
	if err != nil {
		return err
	}
	newFields, err := configFields(b.RawConfig)
	if err != nil {
		return err
	}
	if archive := withoutAnnotations(a, b); archive != "" {
		r.Notes = append(r.Notes, "annotations of manifests were not compared: "+archive+" has none, and an archive of docker save cannot have any")
	} else {
		oldFields["Annotations"], newFields["Annotations"] = encode(a.Manifest.Annotations), encode(b.Manifest.Annotations)
	}
	for _, name := range keys(oldFields, newFields) {
		for _, c := range compareField(name, oldFields[name], newFields[name]) {
			if !o.IgnoreTimes || !c.isTime() {
				r.Config.Changes = append(r.Config.Changes, c)
			}
		}
	}
	return nil
}

// withoutAnnotations returns the name of an archive that may have lost annotations which the other image has; "" for none. The manifest
// of an archive of docker save is made of its other files.
func withoutAnnotations(a, b *inspect.Image) string {
	for _, pair := range [][2]*inspect.Image{{a, b}, {b, a}} {
		if pair[0].Kind == inspect.Archive && len(pair[0].Manifest.Annotations) == 0 && len(pair[1].Manifest.Annotations) > 0 {
			return pair[0].Name
		}
	}
	return ""
}

// isTime reports whether the change is of the time of the image.
func (c *ConfigChange) isTime() bool {
	return c.Field == fieldCreated || c.Key == ocispec.AnnotationCreated
}

// configFields returns the fields of a config, with those of its process beside the others. History and layers are sections of their own.
func configFields(raw []byte) (fields, error) {
	var all, process fields
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf("image config: %w", err)
	}
	if inner := all["config"]; !empty(inner) {
		if err := json.Unmarshal(inner, &process); err != nil {
			return nil, fmt.Errorf("image config: %w", err)
		}
	}
	for _, name := range []string{"config", "history", "rootfs"} {
		delete(all, name)
	}
	for name, value := range process {
		if _, twice := all[name]; twice {
			name = "config." + name
		}
		all[name] = value
	}
	return all, nil
}

// keys are those of two objects, sorted.
func keys(a, b fields) []string {
	list := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(list)
	return slices.Compact(list)
}

// compareField compares one field: key by key where it is an object of scalars, or a list of variables.
func compareField(name string, a, b json.RawMessage) (list []ConfigChange) {
	if sameJSON(a, b) {
		return nil
	}
	keysA, okA := split(name, a)
	keysB, okB := split(name, b)
	if okA && okB {
		for _, key := range keys(keysA, keysB) {
			va, inA := keysA[key]
			vb, inB := keysB[key]
			if inA != inB || !bytes.Equal(va, vb) {
				list = append(list, newConfigChange(name, key, va, vb, inA, inB))
			}
		}
		if len(list) > 0 {
			return list
		}
		// The same variables, in another order.
	}
	return []ConfigChange{newConfigChange(name, "", a, b, !empty(a), !empty(b))}
}

func newConfigChange(field, key string, a, b json.RawMessage, inA, inB bool) ConfigChange {
	c := ConfigChange{Field: field, Key: key, Change: Changed}
	if inA {
		c.Old = a
	} else {
		c.Change = Added
	}
	if inB {
		c.New = b
	} else {
		c.Change = Removed
	}
	return c
}

// split returns what a field consists of, if its parts have names.
func split(name string, raw json.RawMessage) (fields, bool) {
	if empty(raw) {
		return nil, true
	}
	if name == "Env" {
		return splitEnv(raw)
	}
	var object fields
	if json.Unmarshal(raw, &object) != nil || name == "Healthcheck" {
		return nil, false
	}
	for key, value := range object {
		object[key] = compact(value)
	}
	return object, true
}

func splitEnv(raw json.RawMessage) (fields, bool) {
	var env []string
	if json.Unmarshal(raw, &env) != nil {
		return nil, false
	}
	all := fields{}
	for _, variable := range env {
		key, value, _ := strings.Cut(variable, "=")
		if _, twice := all[key]; twice {
			return nil, false
		}
		all[key] = encode(value)
	}
	return all, true
}

// sameJSON compares values. A value that is empty is the same as none.
func sameJSON(a, b json.RawMessage) bool {
	return empty(a) && empty(b) || bytes.Equal(compact(a), compact(b))
}

// compact returns a value in one form: without spaces, the keys of objects sorted.
func compact(raw json.RawMessage) json.RawMessage {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil {
		return raw
	}
	return encode(value)
}

func empty(raw json.RawMessage) bool {
	switch string(compact(raw)) {
	case "", "null", `""`, "[]", "{}", "0", "false":
		return true
	}
	return false
}

func encode(value any) json.RawMessage {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if e.Encode(value) != nil { // what was decoded, or text
		return nil
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}
