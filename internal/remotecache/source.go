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
	chain, err := LimitLayers(op.GetSource(), img.Chain)
	if err != nil {
		return nil, err
	}
	img.Chain = chain
	var limit *int
	if op.GetSource().GetAttrs()[pb.AttrImageLayerLimit] != "" {
		n := len(chain)
		limit = &n
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

// LimitLayers returns the layers of an image that its source wants: all, or so many from the bottom.
func LimitLayers(op *pb.SourceOp, chain []digest.Digest) ([]digest.Digest, error) {
	v := op.GetAttrs()[pb.AttrImageLayerLimit]
	if v == "" {
		return chain, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > len(chain) {
		return nil, fmt.Errorf("invalid layer limit %s: the image has %d", v, len(chain))
	}
	return chain[:n], nil
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

// BlobKey returns the name of a source that is a blob (source/containerblob/pull.go, hash).
func BlobKey(op *pb.SourceOp, d digest.Digest) (string, error) {
	doc := struct {
		Digest         digest.Digest
		Filename       string
		Perm, UID, GID int
	}{Digest: d, Filename: op.Attrs[pb.AttrHTTPFilename]}
	if err := numbers(op.Attrs, map[string]*int{pb.AttrHTTPPerm: &doc.Perm, pb.AttrHTTPUID: &doc.UID, pb.AttrHTTPGID: &doc.GID}); err != nil {
		return "", err
	}
	key, err := jsonDigest(doc)
	return key.String(), err
}

// numbers reads attributes that are numbers.
func numbers(attrs map[string]string, to map[string]*int) error {
	for attr, n := range to {
		if v := attrs[attr]; v != "" {
			i, err := strconv.ParseInt(v, 0, 64)
			if err != nil {
				return fmt.Errorf("attribute %s: %w", attr, err)
			}
			*n = int(i)
		}
	}
	return nil
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
	if err := numbers(op.Attrs, map[string]*int{pb.AttrHTTPPerm: &doc.Perm, pb.AttrHTTPUID: &doc.UID, pb.AttrHTTPGID: &doc.GID}); err != nil {
		return "", err
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
