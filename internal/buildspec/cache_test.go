package buildspec

import (
	"testing"

	"github.com/micabuild/mica/internal/compression"
)

func TestParseCaches(t *testing.T) {
	t.Parallel()
	registry := func(ref string) Cache { return Cache{Type: CacheRegistry, Ref: ref, Compression: compression.Gzip} }
	for name, c := range map[string]struct {
		list []string
		to   bool
		want []Cache
		err  string
	}{
		"name":              {list: []string{"user/app:cache"}, want: []Cache{registry("user/app:cache")}},
		"names":             {list: []string{"a,b"}, want: []Cache{registry("a"), registry("b")}},
		"nothing":           {list: []string{""}},
		"registry":          {list: []string{"type=registry,ref=a"}, want: []Cache{registry("a")}},
		"key in upper case": {list: []string{"TYPE=registry,REF=a"}, want: []Cache{registry("a")}},
		"insecure": {list: []string{"type=registry,ref=a,registry.insecure=true"}, want: []Cache{
			{Type: CacheRegistry, Ref: "a", Insecure: true, Compression: compression.Gzip},
		}},
		"local": {list: []string{"type=local,src=d,tag=t,digest=sha256:1"}, want: []Cache{
			{Type: CacheLocal, Dir: "d", Tag: "t", Digest: "sha256:1", Compression: compression.Gzip},
		}},
		"written": {
			list: []string{"type=local,dest=d,mode=max,compression=zstd,compression-level=3,force-compression=true,ignore-error=1"}, to: true,
			want: []Cache{{Type: CacheLocal, Dir: "d", Max: true, Compression: compression.Zstd, Level: 3, Force: true, IgnoreError: true}},
		},
		"uncompressed": {list: []string{"type=local,dest=d,compression=uncompressed"}, to: true, want: []Cache{
			{Type: CacheLocal, Dir: "d", Compression: compression.None},
		}},
		"Docker's types": {list: []string{"type=registry,ref=a,oci-mediatypes=false"}, to: true, want: []Cache{
			{Type: CacheRegistry, Ref: "a", DockerTypes: true, Compression: compression.Gzip},
		}},
		"index": {list: []string{"type=registry,ref=a,image-manifest=false,oci-mediatypes=false"}, to: true, want: []Cache{
			{Type: CacheRegistry, Ref: "a", DockerTypes: true, Index: true, Compression: compression.Gzip},
		}},
		"inline": {list: []string{"type=inline"}, to: true, want: []Cache{{Type: CacheInline, Compression: compression.Gzip}}},
		"steps, read": {list: []string{"type=registry,ref=a/b,mode=steps"}, want: []Cache{
			{Type: CacheRegistry, Ref: "a/b", Steps: true, Compression: compression.Gzip},
		}},
		"steps, written": {list: []string{"type=registry,ref=a,mode=steps,compression=zstd,ignore-error=true"}, to: true, want: []Cache{
			{Type: CacheRegistry, Ref: "a", Steps: true, Compression: compression.Zstd, IgnoreError: true},
		}},
		"lease of an image": {
			list: []string{"type=registry,ref=a,lease=false"}, to: true,
			err: `invalid cache "type=registry,lease=false,ref=a": lease=false is for mode=steps`,
		},
		"steps of a tag": {
			list: []string{"type=registry,ref=a:1,mode=steps"},
			err:  `invalid cache "type=registry,mode=steps,ref=a:1": mode=steps uses a whole repository: leave out the tag or digest of a:1`,
		},
		"steps in a directory": {
			list: []string{"type=local,dest=d,mode=steps"}, to: true,
			err: `invalid cache "type=local,dest=d,mode=steps": cache type local has no mode=steps: use type=registry`,
		},
		"steps in an index": {
			list: []string{"type=registry,ref=a,mode=steps,image-manifest=false"}, to: true,
			err: `invalid cache "type=registry,image-manifest=false,mode=steps,ref=a": mode=steps has no attribute image-manifest`,
		},
		"steps of estargz": {
			list: []string{"type=registry,ref=a,mode=steps,compression=estargz"}, to: true,
			err: `invalid cache "type=registry,compression=estargz,mode=steps,ref=a": mode=steps has no compression=estargz, which changes layers`,
		},
		"inline, read": {list: []string{"type=inline"}, err: `invalid cache "type=inline": unknown cache type "inline": use registry, local, gha, s3 or azblob, or inline to write one`},
		"unknown":      {list: []string{"type=other"}, to: true, err: `invalid cache "type=other": unknown cache type "other": use registry, local, gha, s3 or azblob, or inline to write one`},
		"azblob": {list: []string{"type=azblob,account_url=https://a.blob.core.windows.net?sig=s,container=c,name=a;b"}, want: []Cache{{
			Type: CacheAzure, Compression: compression.Gzip,
			Azure: AzureCache{URL: "https://a.blob.core.windows.net?sig=s", Container: "c", Blobs: "blobs", Manifests: "manifests", Name: "a;b"},
		}}},
		"azblob, credentials": {
			list: []string{"type=azblob,account_url=https://a?sig=secret,secret_access_key=secret,ref=x"},
			err:  `invalid cache "type=azblob,account_url=https://a?xxxxx,ref=x,secret_access_key=xxxxx": cache type azblob has no attribute "ref"`,
		},
		"no type":         {list: []string{"ref=a"}, err: `invalid cache "ref=a": type required for "ref=a"`},
		"no ref":          {list: []string{"type=registry"}, err: `invalid cache "type=registry": cache type registry needs ref`},
		"no src":          {list: []string{"type=local,tag=t"}, err: `invalid cache "type=local,tag=t": cache type local needs src`},
		"no dest":         {list: []string{"type=local,src=d"}, to: true, err: `invalid cache "type=local,src=d": cache type local needs dest`},
		"no value":        {list: []string{"type=local,src"}, err: `invalid cache "type=local,src": invalid value src: expected key=value`},
		"of another type": {list: []string{"type=registry,ref=a,src=b"}, err: `invalid cache "type=registry,ref=a,src=b": cache type registry has no attribute "src"`},
		"of writing":      {list: []string{"type=registry,ref=a,mode=max"}, err: `invalid cache "type=registry,mode=max,ref=a": cache type registry has no attribute "mode"`},
		"mode":            {list: []string{"type=inline,mode=med"}, to: true, err: `invalid cache "type=inline,mode=med": invalid cache mode "med": use min, max or steps`},
		"flag": {
			list: []string{"type=registry,ref=a,ignore-error=x"}, to: true,
			err: `invalid cache "type=registry,ignore-error=x,ref=a": cache attribute ignore-error: "x" is neither true nor false`,
		},
		"level": {
			list: []string{"type=registry,ref=a,compression-level=x"}, to: true,
			err: `invalid cache "type=registry,compression-level=x,ref=a": cache attribute compression-level: "x" is not a number`,
		},
		"reference": {
			list: []string{"type=registry,ref=A B"},
			err:  `invalid cache "type=registry,ref=A B": invalid cache reference "A B": invalid reference format: repository name (library/A B) must be lowercase`,
		},
		"manifest and Docker's types": {
			list: []string{"type=registry,ref=a,image-manifest=true,oci-mediatypes=false"}, to: true,
			err: `invalid cache "type=registry,image-manifest=true,oci-mediatypes=false,ref=a": image-manifest=true conflicts with oci-mediatypes=false`,
		},
		"estargz and Docker's types": {
			list: []string{"type=registry,ref=a,compression=estargz,oci-mediatypes=false"}, to: true,
			err: `invalid cache "type=registry,compression=estargz,oci-mediatypes=false,ref=a": compression=estargz conflicts with oci-mediatypes=false`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseCaches(c.list, c.to)
			check(t, got, err, c.want, c.err)
		})
	}
}

func TestInlineCache(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		list []string
		want bool
	}{
		"none": {}, "registry": {list: []string{"type=registry,ref=a"}},
		"inline": {list: []string{"type=registry,ref=a", "type=inline"}, want: true},
	} {
		caches, err := ParseCaches(c.list, true)
		s := Spec{CacheTo: caches}
		if err != nil || s.InlineCache() != c.want {
			t.Errorf("%s: %t, want %t; %v", name, s.InlineCache(), c.want, err)
		}
	}
}
