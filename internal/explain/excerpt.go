package explain

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/history"
)

// Excerpt is what a cache tells of the build that exported it, so that another machine can say what is not the same in its own. It has
// names, and digests of everything that may be a secret: of the values of build arguments and variables, and of the Dockerfile.
type Excerpt struct {
	Salt        string                                 `json:"salt"` // of the digests of values
	Build       history.Build                          `json:"build"`
	Dockerfile  dockerfile                             `json:"dockerfile"`
	Ingredients map[digest.Digest][]history.Ingredient `json:"ingredients"` // by the keys of steps
	Lists       map[digest.Digest][]byte               `json:"lists"`       // of files, by the digests in ingredients
}

// maxLists bounds the lists of files in an excerpt, in bytes. Steps whose lists have no room are explained without the names of files.
const maxLists = 2 << 20

// MaxExcerpt bounds an excerpt, compressed, and MaxExcerptJSON when it is not.
const (
	MaxExcerpt     = 4 << 20
	maxExcerptJSON = 64 << 20
)

// NewExcerpt returns the excerpt of a build.
func NewExcerpt(builds *history.Builds, b *history.Build) *Excerpt {
	x := &Excerpt{Ingredients: map[digest.Digest][]history.Ingredient{}, Lists: map[digest.Digest][]byte{}}
	h := sha256.New()
	for _, s := range b.Steps {
		_, _ = io.WriteString(h, s.Vertex.String()+s.Key.String())
	}
	x.Salt = hex.EncodeToString(h.Sum(nil))
	x.Dockerfile = *x.sealFile(parseDockerfile(b.Text))
	for line, text := range x.Dockerfile.Instructions {
		x.Dockerfile.Instructions[line] = x.seal(text)
	}
	x.Build = history.Build{Ref: b.Ref, Line: b.Line, Platforms: b.Platforms, Args: x.sealValues(b.Args), Text: x.seal(b.Text), Status: history.Completed}
	room := maxLists
	for _, s := range b.Steps {
		step := &history.Step{Vertex: s.Vertex, Name: s.Name, Inputs: s.Inputs, Line: s.Line, Key: s.Key, State: history.StepCached, Output: s.Output}
		if s.Source != nil {
			src := *s.Source
			src.Env = x.sealList(src.Env)
			step.Source = &src
		}
		x.Build.Steps = append(x.Build.Steps, step)
		list, err := builds.Ingredients(s.Key)
		if s.Key == "" || err != nil {
			continue
		}
		x.Ingredients[s.Key] = x.sealAll(list)
		for _, in := range list {
			room -= x.addList(builds, in, room)
		}
	}
	return x
}

// addList adds the list of the files that an ingredient is the digest of, if there is one and room for it. It returns its size.
func (x *Excerpt) addList(builds *history.Builds, in history.Ingredient, room int) int {
	sum := digest.Digest(in.Value)
	if in.Kind != "source" && in.Kind != "mount" || x.Lists[sum] != nil || sum.Validate() != nil || !builds.HasFiles(sum) {
		return 0
	}
	data, err := builds.Files(sum)
	if err != nil || len(data) > room {
		return 0
	}
	x.Lists[sum] = data
	return len(data)
}

// Marshal returns the excerpt as ReadExcerpt reads it.
func (x *Excerpt) Marshal() ([]byte, error) {
	data, err := json.Marshal(x)
	if err != nil {
		return nil, fmt.Errorf("record of the build in its cache: %w", err)
	}
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("record of the build in its cache: %w", err)
	}
	return w.EncodeAll(data, nil), nil
}

// ReadExcerpt reads an excerpt that anybody may have written. from is the name of its cache.
func ReadExcerpt(data []byte, from string) (*Excerpt, error) {
	failed := func(err error) error { return fmt.Errorf("record of the build in cache %s: %w", from, err) }
	r, err := zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxExcerptJSON))
	if err != nil {
		return nil, failed(err)
	}
	defer r.Close()
	doc, err := io.ReadAll(io.LimitReader(r, maxExcerptJSON+1))
	switch {
	case err != nil:
		return nil, failed(err)
	case len(doc) > maxExcerptJSON:
		return nil, failed(fmt.Errorf("it is larger than %d bytes", maxExcerptJSON))
	}
	x, err := parseExcerpt(doc, from)
	if err != nil {
		return nil, failed(err)
	}
	return x, nil
}

func parseExcerpt(doc []byte, from string) (*Excerpt, error) {
	x := &Excerpt{}
	if err := json.Unmarshal(doc, x); err != nil {
		return nil, err
	}
	if err := x.Build.Validate(); err != nil {
		return nil, err
	}
	x.Build.Ref, x.Build.Started, x.Build.Status = from, time.Time{}, history.Completed
	return x, nil
}

func (x *Excerpt) ingredients(key digest.Digest) ([]history.Ingredient, error) {
	list, ok := x.Ingredients[key]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return list, nil
}

func (x *Excerpt) files(sum digest.Digest) ([]byte, error) {
	data, ok := x.Lists[sum]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return data, nil
}

// sealed is the beginning of a digest in place of a value.
const sealed = "sealed:"

// seal returns what an excerpt has in place of a value: the same for the same value. Without an excerpt, that is the value.
func (x *Excerpt) seal(value string) string {
	if x == nil || value == "" {
		return value
	}
	sum := sha256.Sum256([]byte(x.Salt + value))
	return sealed + hex.EncodeToString(sum[:])
}

func (x *Excerpt) sealValues(values map[string]string) map[string]string {
	if x == nil {
		return values
	}
	all := make(map[string]string, len(values))
	for name, v := range values {
		all[name] = x.seal(v)
	}
	return all
}

// sealList seals the values of an environment.
func (x *Excerpt) sealList(env []string) (list []string) {
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		list = append(list, name+"="+x.seal(value))
	}
	return list
}

// sealFile seals the values in a Dockerfile.
func (x *Excerpt) sealFile(d *dockerfile) *dockerfile {
	return &dockerfile{maps.Clone(d.Instructions), x.sealValues(d.Args), x.sealValues(d.Env)}
}

// sealAll seals the environments of processes.
func (x *Excerpt) sealAll(list []history.Ingredient) []history.Ingredient {
	list = slices.Clone(list)
	for i, in := range list {
		if in.Kind != "operation" {
			continue
		}
		if op := decode(in.Value); op.object("meta") != nil && op.object("meta")["env"] != nil {
			op.object("meta")["env"] = x.sealList(op.object("meta").list("env"))
			data, err := json.Marshal(op)
			if err != nil {
				data = []byte(errors.New("an operation that is not JSON").Error())
			}
			list[i].Value = string(data)
		}
	}
	return list
}

// hide removes the digests of values from causes.
func (x *Excerpt) hide(list []history.Cause) []history.Cause {
	if x == nil {
		return list
	}
	list = slices.Clone(list)
	for i, c := range list {
		if strings.Contains(c.Old+c.New, sealed) {
			list[i].Old, list[i].New = "", ""
		}
	}
	return list
}
