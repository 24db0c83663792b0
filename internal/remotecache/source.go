package remotecache

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/gitutil"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
)

// Image is a base image in its registry, or in an OCI layout.
type Image struct {
	// Roots are the digests of the index that has the name, if any, and of the manifest.
	Roots []digest.Digest
	// Chain are the DiffIDs of its layers, bottom first.
	Chain []digest.Digest
}

// ImageKeys returns the names of a docker-image or oci-layout source: by its index and manifest and, so that the same layers in another
// manifest are found too, by its layers (source/containerimage/pull.go, mainManifestKey and cacheKeyFromConfig).
func ImageKeys(op *pb.Op, img Image) ([]string, error) {
	var limit *int
	if v := op.GetSource().GetAttrs()[pb.AttrImageLayerLimit]; v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > len(img.Chain) {
			return nil, fmt.Errorf("invalid layer limit %s", v)
		}
		limit, img.Chain = &n, img.Chain[:n]
	}
	p := normalPlatform(op.Platform)
	var keys []string
	for _, root := range img.Roots {
		d, err := jsonDigest(struct {
			Digest     digest.Digest
			OS         string
			Arch       string
			Variant    string   `json:",omitempty"`
			OSVersion  string   `json:",omitempty"`
			OSFeatures []string `json:",omitempty"`
			Limit      *int     `json:",omitempty"`
		}{root, p.OS, p.Architecture, p.Variant, p.OSVersion, p.OSFeatures, limit})
		if err != nil {
			return nil, err
		}
		if !slices.Contains(keys, d.String()) {
			keys = append(keys, d.String())
		}
	}
	if len(img.Chain) > 0 {
		keys = append(keys, identity.ChainID(img.Chain).String())
	}
	return keys, nil
}

// GitKey returns the name of a git source whose ref is at the commit (source/git/source.go, shaToCacheKey).
func GitKey(op *pb.SourceOp, commit, ref string) (string, error) {
	_, remote, _ := strings.Cut(op.Identifier, "://")
	if !gitutil.IsGitTransport(remote) {
		remote = "https://" + remote
	}
	u, err := gitutil.ParseURL(remote)
	if err != nil {
		return "", err
	}
	key := commit
	if op.Attrs[pb.AttrKeepGitDir] == "true" {
		key += ".git"
		if ref != "" {
			key += "#" + ref
		}
	}
	if u.Opts != nil && u.Opts.Subdir != "" {
		key += ":" + u.Opts.Subdir
	}
	if op.Attrs[pb.AttrGitSkipSubmodules] == "true" {
		key += "(skip-submodules)"
	}
	if t := op.Attrs[pb.AttrGitMTime]; t != "" && t != "checkout" {
		key += "(mtime=" + t + ")"
	}
	if op.Attrs[pb.AttrGitCheckoutBundle] == "true" {
		key += "(bundle)"
	}
	return key, nil
}

// Download is the result of a http or https source.
type Download struct {
	Filename string
	Digest   digest.Digest
	// Modified is the Last-Modified header of the response. It is nil without one, or if the build gives the digest.
	Modified *time.Time
}

type headerField struct{ Name, Value string }

// HTTPKey returns the name of a http or https source (source/http/source.go, formatCacheKey).
func HTTPKey(op *pb.SourceOp, d Download) (string, error) {
	doc := struct {
		Filename         string
		Perm, UID, GID   int
		Checksum         digest.Digest
		LastModified     string        `json:"LastModTime,omitempty"`
		AuthHeaderSecret string        `json:",omitempty"`
		Header           []headerField `json:",omitempty"`
	}{Filename: d.Filename, Checksum: d.Digest, AuthHeaderSecret: op.Attrs[pb.AttrHTTPAuthHeaderSecret]}
	for attr, n := range map[string]*int{pb.AttrHTTPPerm: &doc.Perm, pb.AttrHTTPUID: &doc.UID, pb.AttrHTTPGID: &doc.GID} {
		if v := op.Attrs[attr]; v != "" {
			i, err := strconv.ParseInt(v, 0, 64)
			if err != nil {
				return "", fmt.Errorf("attribute %s: %w", attr, err)
			}
			*n = int(i)
		}
	}
	if d.Modified != nil {
		doc.LastModified = d.Modified.Format(http.TimeFormat)
	}
	for attr, v := range op.Attrs {
		name, ok := strings.CutPrefix(attr, pb.AttrHTTPHeaderPrefix)
		if name = http.CanonicalHeaderKey(name); ok && (name == "Accept" || name == "User-Agent") {
			doc.Header = append(doc.Header, headerField{name, v})
		}
	}
	slices.SortFunc(doc.Header, func(a, b headerField) int { return cmp.Compare(a.Name, b.Name) })
	key, err := jsonDigest(doc)
	return key.String(), err
}

// sourceDigest returns the digest of a source as an operation (solver/llbsolver/ops/source.go, CacheMap).
func sourceDigest(key string) digest.Digest { return digest.FromString("buildkit.source.v0:" + key) }
