package buildspec

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/micabuild/mica/internal/compression"
)

// text is the text of an error, "" for none.
func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// check compares a value, and an error by its whole text.
func check[T any](t *testing.T, got T, err error, want T, wantErr string) {
	t.Helper()
	if text(err) != wantErr {
		t.Errorf("error %q, want %q", text(err), wantErr)
	}
	if wantErr != "" {
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseOutput(t *testing.T) {
	t.Parallel()
	local := func(dest string) Entry { return Entry{OutputLocal, map[string]string{"dest": dest}} }
	for text, c := range map[string]struct {
		want Entry
		err  string
	}{
		"out":                           {want: local("out")},
		"./a b/c":                       {want: local("./a b/c")},
		"dest=out":                      {want: local("dest=out")}, // as buildx reads it
		`"a,b"`:                         {want: local("a,b")},
		"-":                             {want: Entry{OutputTar, map[string]string{"dest": "-"}}},
		"type=image":                    {want: Entry{OutputImage, map[string]string{}}},
		"type=oci,dest=x.tar":           {want: Entry{OutputOCI, map[string]string{"dest": "x.tar"}}},
		" Type=docker, Name =b":         {want: Entry{OutputDocker, map[string]string{"name": "b"}}},
		`type=image,"name=a,b"`:         {want: Entry{OutputImage, map[string]string{"name": "a,b"}}},
		"type=image,annotation.k=a=b":   {want: Entry{OutputImage, map[string]string{"annotation.k": "a=b"}}},
		"type=registry,dest=,push=true": {want: Entry{OutputRegistry, map[string]string{"push": "true"}}},
		"type=image,name":               {err: `invalid output "type=image,name": invalid value name: expected key=value`},
		"name=a,dest=b":                 {err: `invalid output "name=a,dest=b": type is required for output`},
		"type=":                         {err: `invalid output "type=": type is required for output`},
		`"a`:                            {err: `invalid output "\"a": parse error on line 1, column 2: extraneous or missing " in quoted-field`},
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			got, err := ParseOutput(text)
			check(t, got, err, c.want, c.err)
		})
	}
}

func TestParseOutputs(t *testing.T) {
	t.Parallel()
	gzip := Upload{Compression: compression.Gzip}
	split := false
	text := func(s string) *string { return &s }
	for output, want := range map[string]Output{
		"type=image":                         {Type: OutputImage, Upload: gzip},
		"type=image,name=a,push=true":        {Type: OutputImage, Names: []string{"a"}, Push: true, Upload: gzip},
		`type=image,"name=a,,b:1",push=`:     {Type: OutputImage, Names: []string{"a", "b:1"}, Push: true, Upload: gzip},
		"type=registry":                      {Type: OutputImage, Push: true, Lazy: true, Upload: gzip},
		"type=registry,push=false":           {Type: OutputImage, Lazy: true, Upload: gzip},
		"type=image,push-by-digest=true":     {Type: OutputImage, Push: true, Unnamed: true, Upload: gzip},
		"type=image,registry.insecure=1":     {Type: OutputImage, Insecure: true, Upload: gzip},
		"type=image,name-canonical=true":     {Type: OutputImage, Canonical: true, Upload: gzip},
		"type=image,unpack=true,store=false": {Type: OutputImage, Upload: gzip},
		"type=image,dangling-name-prefix=d,danging-name-empty-only=true": {
			Type: OutputImage, Dangling: "d", DanglingOnly: true, Upload: gzip,
		},
		"type=image,compression=zstd,compression-level=5,force-compression=true": {
			Type: OutputImage, Form: Form{Level: 5, ForceCompression: true}, Upload: Upload{compression.Zstd, 5, true},
		},
		"type=image,compression=zstd,oci-mediatypes=false": {
			Type: OutputImage, Form: Form{Compression: compression.Zstd, DockerTypes: true},
		},
		"type=image,compression=estargz": {Type: OutputImage, Form: Form{Compression: compression.Estargz}},
		"type=image,oci-mediatypes=false,oci-artifact=true,rewrite-timestamp=true,source-date-epoch=1": {
			Type: OutputImage, Upload: gzip, Form: Form{DockerTypes: true, Artifact: true, RewriteTimestamp: true, Epoch: text("1")},
		},
		"type=oci,dest=x,compression=uncompressed": {Type: OutputOCI, Dest: "x", Form: Form{Compression: compression.None}},
		"type=oci":                      {Type: OutputOCI},
		"type=oci,tar=false,dest=d":     {Type: OutputOCI, Dest: "d", Directory: true},
		"type=docker":                   {Type: OutputImage},
		"type=docker,dest=-":            {Type: OutputDocker, Dest: "-"},
		"type=docker,tar=false,dest=d":  {Type: OutputDocker, Dest: "d", Directory: true},
		"type=tar,dest=x":               {Type: OutputTar, Dest: "x"},
		"type=tar,platform-split=false": {Type: OutputTar, Split: &split},
		"type=local,dest=d,mode=delete": {Type: OutputLocal, Dest: "d", Directory: true, Delete: true},
		"type=local,dest=d,mode=copy,attestation-prefix=p,source-date-epoch=2": {
			Type: OutputLocal, Dest: "d", Directory: true, StatementPrefix: "p", Form: Form{Epoch: text("2")},
		},
		"type=tar,dest=x,source-date-epoch=": {Type: OutputTar, Dest: "x", Form: Form{Epoch: text("")}},
		"type=cacheonly":                     {Type: OutputNone, Lazy: true},
		"d":                                  {Type: OutputLocal, Dest: "d", Directory: true},
	} {
		t.Run(output, func(t *testing.T) {
			t.Parallel()
			want.Form.Annotations = map[string]string{}
			got, err := ParseOutputs([]string{"", output})
			check(t, got, err, []Output{want}, "")
		})
	}
}

func TestParseOutputsErrors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"type=cake":                                           `unknown output type "cake": use image, registry, oci, docker, tar, local or cacheonly`,
		"type=local":                                          "dest is required for output type local: a directory",
		"type=local,dest=-":                                   "dest is required for output type local: a directory",
		"type=oci,tar=false":                                  "dest is required for output type oci with tar=false: a directory",
		"type=docker,tar=0,dest=-":                            "dest is required for output type docker with tar=false: a directory",
		"type=local,dest=d,mode=x":                            `output attribute mode: "x" is neither copy nor delete`,
		"type=image,push=maybe":                               `output attribute push: "maybe" is neither true nor false`,
		"type=image,push=a,store=b":                           `output attribute push: "a" is neither true nor false`,
		"type=image,compression=brotli":                       `unknown compression "brotli": use gzip, zstd, estargz or uncompressed (none)`,
		"type=image,compression-level=x,compression=gzip":     `output attribute compression-level: "x" is not a number`,
		"type=image,compression=estargz,oci-mediatypes=false": "output attribute compression=estargz conflicts with oci-mediatypes=false",
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			got, err := ParseOutputs([]string{text})
			check(t, got, err, nil, want)
		})
	}
}

func TestOutputAttributesOfNoExporter(t *testing.T) {
	t.Parallel()
	got, err := ParseOutputs([]string{"type=registry,title=a,ansi=1,unpack=true,buildinfo=x,annotation.a=b,annotation-index.c=d"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{`output type registry has no attribute "ansi"`, `output type registry has no attribute "title"`}
	if diff := cmp.Diff(want, got[0].Unused); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"annotation.a": "b", "annotation-index.c": "d"}, got[0].Form.Annotations); diff != "" {
		t.Error(diff)
	}
}

func TestOutputStdout(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"-": true, "type=tar": true, "type=oci": true, "type=oci,dest=-": true, "type=docker,dest=-": true,
		"type=docker": false, "type=image": false, "type=cacheonly": false, "out": false, "type=oci,dest=x": false, "type=oci,tar=false,dest=x": false,
	} {
		got, err := ParseOutputs([]string{text})
		if err != nil || got[0].Stdout() != want {
			t.Errorf("%s: %t, want %t; %v", text, got[0].Stdout(), want, err)
		}
	}
}

func FuzzParseOutput(f *testing.F) {
	for _, s := range []string{"out", "-", `type=oci,"dest=a,b"`, "type=image,push=", "a=b", `"`, `""`, ",,=", "type=local,dest=d,mode=delete"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e, err := ParseOutput(s)
		if err != nil {
			return
		}
		// The text of an entry means the entry.
		again, err := ParseOutput(e.String())
		if err != nil || !e.Equal(again) {
			t.Errorf("%q is %q, which is %q, %v", s, e, again, err)
		}
	})
}
