package buildspec

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestFlags: every grammar reads booleans as Go does, and refuses other texts.
func TestFlags(t *testing.T) {
	t.Parallel()
	output := func(read func(*Output) bool) func(string) (bool, error) {
		return func(s string) (bool, error) {
			list, err := ParseOutputs([]string{s})
			return err == nil && read(&list[0]), err
		}
	}
	cache := func(read func(*Cache) bool) func(string) (bool, error) {
		return func(s string) (bool, error) {
			list, err := ParseCaches([]string{s}, true)
			return err == nil && read(&list[0]), err
		}
	}
	for text, parse := range map[string]func(string) (bool, error){
		"type=image,push=%s":                       output(func(o *Output) bool { return o.Push }),
		"type=image,force-compression=%s":          output(func(o *Output) bool { return o.Upload.Force }),
		"type=oci,oci-artifact=%s":                 output(func(o *Output) bool { return o.Form.Artifact }),
		"type=tar,platform-split=%s":               output(func(o *Output) bool { return *o.Split }),
		"type=registry,ref=a,ignore-error=%s":      cache(func(c *Cache) bool { return c.IgnoreError }),
		"type=registry,ref=a,force-compression=%s": cache(func(c *Cache) bool { return c.Force }),
		"type=sbom,disabled=%s": func(s string) (bool, error) {
			attests, err := ParseAttests([]string{s})
			return len(attests) == 0, err
		},
		"a=/sock,raw=%s": func(s string) (bool, error) {
			agents, err := ParseSSH([]string{s})
			return err == nil && agents[0].Raw, err
		},
		"check,ignorestatus=%s": func(s string) (bool, error) {
			call, err := ParseCall(s)
			return call.IgnoreStatus, err
		},
	} {
		for value, want := range map[string]bool{"true": true, "1": true, "T": true, "TRUE": true, "false": false, "0": false, "F": false} {
			if got, err := parse(fmt.Sprintf(text, value)); err != nil || got != want {
				t.Errorf(text+": %t, %v", value, got, err)
			}
		}
		for _, value := range []string{"yes", "2", "on", " true"} {
			if _, err := parse(fmt.Sprintf(text, value)); err == nil {
				t.Errorf(text+" is accepted", value)
			}
		}
	}
}

// TestAttributesOfOtherExporters: BuildKit's exporters ignore the attributes of each other, so they are not reported.
func TestAttributesOfOtherExporters(t *testing.T) {
	t.Parallel()
	values := map[string]string{"compression": "gzip", "compression-level": "1", "mode": "copy", "dest": "d"}
	for _, kind := range []string{OutputImage, OutputRegistry, OutputOCI, OutputDocker, OutputTar, OutputLocal, OutputNone} {
		e := Entry{kind, map[string]string{}}
		for _, name := range known {
			e.Attrs[name] = "true"
		}
		maps.Copy(e.Attrs, values)
		before := e.Clone()
		o, err := NewOutput(e)
		if err != nil || o.Unused != nil {
			t.Errorf("%s: %v, %q", kind, err, o.Unused)
		}
		if diff := cmp.Diff(before, e); diff != "" {
			t.Errorf("%s: the entry changed: %s", kind, diff)
		}
	}
	if _, err := NewOutput(Entry{}); text(err) != "type is required for output" {
		t.Error(err)
	}
}

// TestCacheAttributes: every attribute of a type is read where it is listed, and nowhere else.
func TestCacheAttributes(t *testing.T) {
	t.Parallel()
	values := map[string]string{"ref": "a", "src": "d", "dest": "d", "mode": "max", "compression": "zstd", "compression-level": "1", "timeout": "1m", "version": "2", "touch_refresh": "1h", "upload_parallelism": "2"}
	for kind, attributes := range cacheAttributes {
		for to, names := range map[bool][]string{false: attributes.from, true: attributes.to} {
			if names == nil {
				continue // inline caches are read with the image
			}
			e := Entry{kind, map[string]string{}}
			for _, name := range names {
				if e.Attrs[name] = values[name]; values[name] == "" {
					e.Attrs[name] = "true"
				}
			}
			if _, ok := e.Attrs["mode"]; ok && !to {
				e.Attrs["mode"] = "steps" // the only one of a cache that is read
			}
			if _, err := NewCaches([]Entry{e}, to); err != nil {
				t.Errorf("%s, to %t: %v", kind, to, err)
			}
			for _, name := range slices.Concat(attributes.from, attributes.to, []string{"name"}) {
				if slices.Contains(names, name) {
					continue
				}
				other := e.Clone()
				other.Attrs[name] = "x"
				if _, err := NewCaches([]Entry{other}, to); err == nil {
					t.Errorf("%s, to %t: %s is accepted", kind, to, name)
				}
			}
		}
	}
}

// TestCopies: what a grammar returns does not share maps with the entries that it was made of.
func TestCopies(t *testing.T) {
	t.Parallel()
	attest := Entry{AttestProvenance, map[string]string{"mode": "max"}}
	attests, err := NewAttests([]Entry{attest})
	if err != nil {
		t.Fatal(err)
	}
	attests[AttestProvenance]["mode"] = "min"
	image := Entry{OutputImage, map[string]string{"annotation.a": "b"}}
	o, err := NewOutput(image)
	if err != nil {
		t.Fatal(err)
	}
	o.Form.Annotations["annotation.a"] = "c"
	if attest.Attrs["mode"] != "max" || image.Attrs["annotation.a"] != "b" {
		t.Errorf("%v, %v", attest, image)
	}
}

// TestKindsOfOutput: annotations are for images.
func TestKindsOfOutput(t *testing.T) {
	t.Parallel()
	for kind, image := range map[string]bool{
		OutputImage: true, OutputOCI: true, OutputDocker: true, OutputTar: false, OutputLocal: false, OutputNone: false,
	} {
		if o := (&Output{Type: kind}); o.IsImage() != image {
			t.Errorf("%s is an image: %t", kind, o.IsImage())
		}
	}
}
