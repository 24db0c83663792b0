package main

import (
	"io"
	"math"
	"slices"
	"strings"

	cpb "github.com/google/osv-scalibr/binary/proto/config_go_proto"
	"github.com/google/osv-scalibr/extractor/filesystem"
	"github.com/google/osv-scalibr/extractor/filesystem/language/golang/gobinary"
	"github.com/google/osv-scalibr/extractor/filesystem/language/java/archive"
	"github.com/google/osv-scalibr/extractor/filesystem/language/javascript/packagejson"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/wheelegg"
	"github.com/google/osv-scalibr/extractor/filesystem/language/ruby/gemspec"
	"github.com/google/osv-scalibr/extractor/filesystem/language/rust/cargoauditable"
	"github.com/google/osv-scalibr/extractor/filesystem/os/apk"
	"github.com/google/osv-scalibr/extractor/filesystem/os/dpkg"
	"github.com/google/osv-scalibr/extractor/filesystem/os/rpm"
)

const (
	maxZipDepth = 4         // of jars in jars
	maxZipBytes = 256 << 20 // of a jar and all jars in it, which are read into memory
)

// readsTables reports whether an extractor reads tables of a binary, however large it is.
func readsTables(x filesystem.Extractor) bool {
	return x.Name() == gobinary.Name || x.Name() == cargoauditable.Name
}

// sizeLimit is the size of the largest file that is given to an extractor.
func sizeLimit(x filesystem.Extractor) int64 {
	switch x.Name() {
	case gobinary.Name, cargoauditable.Name:
		return maxBinary
	case packagejson.Name, gemspec.Name:
		return maxMetadata
	}
	return maxFile
}

// scripts are extensions of executables that have no tables.
var scripts = map[string]bool{
	".awk": true, ".bash": true, ".php": true, ".pl": true, ".py": true, ".rb": true, ".sh": true, ".tcl": true,
}

// magics are how executables and libraries begin: ELF, PE, and Mach-O in its forms.
var magics = []string{
	"\x7fELF", "MZ", "\xfe\xed\xfa\xce", "\xfe\xed\xfa\xcf", "\xce\xfa\xed\xfe", "\xcf\xfa\xed\xfe", "\xca\xfe\xba\xbe", "\xca\xfe\xba\xbf",
}

func isBinary(r io.ReaderAt) bool {
	head := make([]byte, 4)
	n, _ := r.ReadAt(head, 0) // of a file that is shorter, all
	return slices.ContainsFunc(magics, func(m string) bool { return strings.HasPrefix(string(head[:n]), m) })
}

// extractors are those of packages that are installed. Lock files and sources say what would be.
func extractors() ([]filesystem.Extractor, error) {
	noHash := false
	// The walk limits the sizes of files, and says so.
	config := &cpb.PluginConfig{MaxFileSizeBytes: math.MaxInt64, PluginSpecific: []*cpb.PluginSpecificConfig{
		{Config: &cpb.PluginSpecificConfig_JavaArchive{JavaArchive: &cpb.JavaArchiveConfig{
			MaxZipDepth: maxZipDepth, MaxOpenedBytes: maxZipBytes, HashJars: &noHash,
		}}},
	}}
	var all []filesystem.Extractor
	for _, make := range []func(*cpb.PluginConfig) (filesystem.Extractor, error){
		dpkg.New, apk.New, rpm.New, wheelegg.New, packagejson.New, gemspec.New, gobinary.New, cargoauditable.New, archive.New,
	} {
		x, err := make(config)
		if err != nil {
			return nil, err
		}
		if x.Name() == rpm.Name {
			x = rpmDatabase{x}
		}
		all = append(all, x)
	}
	return all, nil
}
