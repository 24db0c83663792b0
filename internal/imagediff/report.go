// Package imagediff compares two images: their configs, histories, layers and files. It reads tables of contents, and contents only
// where those do not tell.
package imagediff

import (
	"encoding/json"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/inspect"
)

// Schema is the version of the JSON of a Report. It changes when a field changes its meaning; new fields may come without.
const Schema = 1

// Report says how two images differ. Its JSON is the output of `mica diff --format json`. A section that was not compared is null.
type Report struct {
	Schema int     `json:"schemaVersion"`
	A      Subject `json:"a"`
	B      Subject `json:"b"`
	// Same is set if no section that was compared has a difference.
	Same    bool           `json:"same"`
	Config  *ConfigReport  `json:"config,omitempty"`
	History *HistoryReport `json:"history,omitempty"`
	Layers  *LayersReport  `json:"layers,omitempty"`
	// Packages is absent if mica-catalog is not installed.
	Packages *PackagesReport `json:"packages,omitempty"`
	Files    *FilesReport    `json:"files,omitempty"`
	// Causes is there if differences are to be classified.
	Causes *CausesReport `json:"causes,omitempty"`
	// Notes say what was not compared, and why.
	Notes []string `json:"notes,omitempty"`

	contents [2]*contents // if files were compared
}

// Subject is one of the two images.
type Subject struct {
	Name     string        `json:"name"`
	Kind     inspect.Kind  `json:"kind"`
	ID       digest.Digest `json:"id,omitempty"`
	Manifest digest.Digest `json:"manifest,omitempty"`
	Platform string        `json:"platform,omitempty"`
}

// Change is the kind of a difference: what B has that A does not, the reverse, or what both have and is not the same.
type Change string

// The kinds of differences.
const (
	Added   Change = "added"
	Removed Change = "removed"
	Changed Change = "changed"
)

// ConfigReport has the differences of the configs.
type ConfigReport struct {
	Changes []ConfigChange `json:"changes"`
}

// ConfigChange is a difference of a field of the configs, or of one key of a field that is a list of keys, such as a variable of Env.
type ConfigChange struct {
	Field  string          `json:"field"` // as `mica inspect` names it
	Key    string          `json:"key,omitempty"`
	Change Change          `json:"change"`
	Old    json.RawMessage `json:"old,omitempty"`
	New    json.RawMessage `json:"new,omitempty"`
	// Cause is there if differences are classified.
	Cause Cause `json:"cause,omitempty"`
}

// HistoryReport has the differences of the histories, oldest line first.
type HistoryReport struct {
	Changes []HistoryChange `json:"changes"`
}

// HistoryChange is a line of one history, or the lines of both for the same step.
type HistoryChange struct {
	Change Change       `json:"change"`
	Fields []string     `json:"fields,omitempty"` // in which the lines of both differ
	Old    *HistoryLine `json:"old,omitempty"`
	New    *HistoryLine `json:"new,omitempty"`
	// Cause is there if differences are classified.
	Cause Cause `json:"cause,omitempty"`
}

// LayersReport has the layers of both images, bottom first.
type LayersReport struct {
	Shared  LayerSum      `json:"shared"`
	Removed LayerSum      `json:"removed"`
	Added   LayerSum      `json:"added"`
	Layers  []LayerChange `json:"layers"`
}

// LayerSum is how many layers there are of a kind, and their size.
type LayerSum struct {
	Count int   `json:"count"`
	Size  int64 `json:"size"`
}

// LayerChange is a layer of one image or of both.
type LayerChange struct {
	Change    Change        `json:"change,omitempty"` // "" for a layer of both
	DiffID    digest.Digest `json:"diffID"`
	CreatedBy string        `json:"createdBy,omitempty"`
	Size      int64         `json:"size"` // as Docker counts it; that of the blob if the store does not have the layer
	Blob      digest.Digest `json:"blob,omitempty"`
	// OtherBlob is the blob of the layer in B, where it is another: the layer is compressed in another way.
	OtherBlob digest.Digest `json:"otherBlob,omitempty"`
}

// FilesReport has the differences of the files.
type FilesReport struct {
	Added   FileSum `json:"added"`
	Removed FileSum `json:"removed"`
	Changed FileSum `json:"changed"`
	// Changes are in the order of a walk: the files of a directory follow it.
	Changes []FileChange `json:"changes"`
}

// FileSum is how many files there are of a kind, and their content in bytes: of changed files, how much B has more.
type FileSum struct {
	Count int   `json:"count"`
	Size  int64 `json:"size"`
}

// Aspect is what of a file has changed.
type Aspect string

// The aspects of files.
const (
	Type     Aspect = "type"
	Content  Aspect = "content"
	Target   Aspect = "target" // of a symlink
	Device   Aspect = "device" // numbers
	Mode     Aspect = "mode"
	Owner    Aspect = "owner"
	Time     Aspect = "time"
	Xattrs   Aspect = "xattrs"
	Hardlink Aspect = "hardlink" // the file has another set of names
)

// FileChange is a difference of the file of a path.
type FileChange struct {
	Path string `json:"path"` // absolute
	// RawPath is the path in hexadecimal digits, if it is not valid UTF-8.
	RawPath string   `json:"rawPath,omitempty"`
	Change  Change   `json:"change"`
	Aspects []Aspect `json:"aspects,omitempty"` // of a changed file
	Old     *File    `json:"old,omitempty"`
	New     *File    `json:"new,omitempty"`
	// Text is the difference of the contents as a unified diff, if that was asked for, and NoText the reason why there is none.
	Text   string `json:"text,omitempty"`
	NoText string `json:"noText,omitempty"`
	// Cause is there if differences are classified: why two builds of the same thing have it.
	Cause Cause `json:"cause,omitempty"`
}
