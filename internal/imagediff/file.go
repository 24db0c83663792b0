package imagediff

import (
	"encoding/hex"
	"fmt"
	"maps"
	"time"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/view"
)

// File is a file of one image.
type File struct {
	Type    string        `json:"type"` // file, dir, symlink, char, block or fifo
	Mode    string        `json:"mode"` // octal, "0644"
	UID     int           `json:"uid"`
	GID     int           `json:"gid"`
	Size    int64         `json:"size"`
	ModTime *time.Time    `json:"mtime,omitempty"` // absent of a directory that no layer describes
	Digest  digest.Digest `json:"digest,omitempty"`
	Target  string        `json:"target,omitempty"`   // of a symlink
	First   string        `json:"hardlink,omitempty"` // the first name of the file, if it is not this one
	// RawTarget and RawFirst are Target and First in hexadecimal digits, if those are not valid UTF-8.
	RawTarget string            `json:"rawTarget,omitempty"`
	RawFirst  string            `json:"rawHardlink,omitempty"`
	Device    string            `json:"device,omitempty"` // "major:minor"
	Xattrs    map[string]string `json:"xattrs,omitempty"` // in hexadecimal digits
}

var typeNames = map[view.Type]string{
	view.TypeRegular: "file", view.TypeDir: "dir", view.TypeSymlink: "symlink", view.TypeChar: "char", view.TypeBlock: "block", view.TypeFifo: "fifo",
}

// newFile describes a file for a report.
func newFile(n *index.Node, first string) *File {
	e := n.Entry
	f := &File{Type: typeNames[e.Type], Mode: fmt.Sprintf("%04o", e.Mode), UID: e.UID, GID: e.GID, Size: e.Size, Digest: e.Digest, Target: e.Linkname}
	if !e.ModTime.IsZero() {
		t := e.ModTime.UTC()
		f.ModTime = &t
	}
	if first != "" {
		f.First = "/" + first
	}
	f.RawTarget, f.RawFirst = raw(f.Target), raw(f.First)
	if e.Type == view.TypeChar || e.Type == view.TypeBlock {
		f.Device = fmt.Sprintf("%d:%d", e.Major, e.Minor)
	}
	for name, value := range e.Xattrs {
		if f.Xattrs == nil {
			f.Xattrs = map[string]string{}
		}
		f.Xattrs[name] = hex.EncodeToString([]byte(value))
	}
	return f
}

// raw returns a name in hexadecimal digits, if it is not valid UTF-8: in JSON, its bytes would be lost.
func raw(name string) string {
	if utf8.ValidString(name) {
		return ""
	}
	return hex.EncodeToString([]byte(name))
}

// metadata compares all but type and content of two files. coarse: the time of one is known in whole seconds.
func metadata(a, b *view.Entry, coarse bool) (list []Aspect) {
	add := func(aspect Aspect, same bool) {
		if !same {
			list = append(list, aspect)
		}
	}
	if a.Type == b.Type {
		add(Target, a.Linkname == b.Linkname)
		add(Device, a.Major == b.Major && a.Minor == b.Minor)
	}
	add(Mode, a.Mode == b.Mode || a.Type == view.TypeSymlink || b.Type == view.TypeSymlink) // Linux ignores the mode of a symlink
	add(Owner, a.UID == b.UID && a.GID == b.GID)
	// A directory that no layer describes has no time.
	timeA, timeB := a.ModTime, b.ModTime
	if coarse {
		timeA, timeB = timeA.Round(time.Second), timeB.Round(time.Second) // as eStargz does
	}
	add(Time, timeA.Equal(timeB) || a.ModTime.IsZero() || b.ModTime.IsZero())
	add(Xattrs, maps.Equal(a.Xattrs, b.Xattrs))
	return list
}
