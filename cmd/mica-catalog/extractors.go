package main

import (
	"math"

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
	rpmSeconds  = 60        // for a damaged database
)

// tablesAlone are the extractors that read tables of a file, however large it is.
var tablesAlone = map[string]bool{gobinary.Name: true, cargoauditable.Name: true}

// extractors are those of packages that are installed. Lock files and sources say what would be.
func extractors() ([]filesystem.Extractor, error) {
	noHash := false
	// The walk limits the sizes of files, and says so.
	config := &cpb.PluginConfig{MaxFileSizeBytes: math.MaxInt64, PluginSpecific: []*cpb.PluginSpecificConfig{
		{Config: &cpb.PluginSpecificConfig_JavaArchive{JavaArchive: &cpb.JavaArchiveConfig{
			MaxZipDepth: maxZipDepth, MaxOpenedBytes: maxZipBytes, HashJars: &noHash,
		}}},
		{Config: &cpb.PluginSpecificConfig_Rpm{Rpm: &cpb.RpmConfig{TimeoutSeconds: rpmSeconds}}},
	}}
	var all []filesystem.Extractor
	for _, make := range []func(*cpb.PluginConfig) (filesystem.Extractor, error){
		dpkg.New, apk.New, rpm.New, wheelegg.New, packagejson.New, gemspec.New, gobinary.New, cargoauditable.New, archive.New,
	} {
		x, err := make(config)
		if err != nil {
			return nil, err
		}
		all = append(all, x)
	}
	return all, nil
}
