package catalog

// What mica and mica-catalog say to each other. internal/catalog/protocol.go and cmd/mica-catalog/protocol.go are the same, but for the
// name of the package.
//
// mica-catalog writes requests to its standard output and reads a reply to each from its standard input, as JSON. It asks for the
// files of the image by their paths, "." for the root; symlinks are followed inside the image. An opened file comes as a
// descriptor over the socket that is descriptor 3, with one byte, after its reply.

// protocolVersion changes with the messages, and with what a catalogue of the same files has.
const protocolVersion = "2 osv-scalibr v0.5.3"

// The operations of requests. Only those that ask for files have replies.
const (
	opHello   = "hello"   // Text is the version: the first request
	opStat    = "stat"    // reply: File
	opReadDir = "readdir" // reply: Files, of which the path is the name
	opOpen    = "open"    // reply: File, and a descriptor
	opPackage = "package"
	opWarn    = "warn" // Text and Path: a file that was not catalogued
	opDone    = "done" // the last request
)

type request struct {
	Op      string   `json:"op"`
	Path    string   `json:"path,omitempty"`
	Text    string   `json:"text,omitempty"`
	Again   bool     `json:"again,omitempty"` // of a warning: another try may catalogue the file
	Package *Package `json:"package,omitempty"`
}

type reply struct {
	Error   string `json:"error,omitempty"`
	Missing bool   `json:"missing,omitempty"` // no file of that name
	File    *file  `json:"file,omitempty"`
	Files   []file `json:"files,omitempty"`
}

// file is what is known of a file. Mode has the bits of io/fs.
type file struct {
	Name string `json:"name"`
	Mode uint32 `json:"mode"`
	Size int64  `json:"size,omitempty"`
}

// Package is an installed package.
type Package struct {
	// Type is the type of its package URL: deb, rpm, apk, pypi, npm, gem, golang, cargo or maven.
	Type     string   `json:"type"`
	Name     string   `json:"name"`
	Version  string   `json:"version,omitempty"`
	PURL     string   `json:"purl,omitempty"`
	Licenses []string `json:"licenses,omitempty"` // as the package has them
	Path     string   `json:"path"`               // the file that says so
}
