package bake

import "testing"

// TestRelative: with BUILDX_BAKE_FILE_RELATIVE_PATHS, paths are relative to the file that has them.
func TestRelative(t *testing.T) {
	t.Parallel()
	file := func(name, text string) File { return File{name, []byte(text)} }
	for name, c := range map[string]struct {
		files          []File
		set            []string
		want, contexts string
	}{
		"default":           {files: []File{file("sub/a.hcl", `target "default" {}`)}, want: `"sub"`},
		"here":              {files: []File{file("a.hcl", `target "default" { context = "x" }`)}, want: `"x"`},
		"context":           {files: []File{file("sub/a.hcl", `target "default" { context = "x" }`)}, want: `"sub/x"`},
		"up":                {files: []File{file("sub/a.hcl", `target "default" { context = "../x" }`)}, want: `"x"`},
		"up, file":          {files: []File{file("../sub/a.hcl", `target "default" { context = "x" }`)}, want: `"../sub/x"`},
		"absolute file":     {files: []File{file("/sub/a.hcl", `target "default" { context = "x" }`)}, want: `"/sub/x"`},
		"absolute":          {files: []File{file("sub/a.hcl", `target "default" { context = "/x" }`)}, want: `"/x"`},
		"cwd":               {files: []File{file("sub/a.hcl", `target "default" { context = "cwd://x" }`)}, want: `"x"`},
		"remote":            {files: []File{file("sub/a.hcl", `target "default" { context = "https://example.org/x.git" }`)}, want: `"https://example.org/x.git"`},
		"stdin":             {files: []File{file("-", `target "default" { context = "x" }`)}, want: `"x"`},
		"of two files":      {files: []File{file("sub/a.hcl", `target "default" { context = "x" }`), file("b.hcl", `target "default" { target = "t" }`)}, want: `"sub/x"`},
		"of the second":     {files: []File{file("sub/a.hcl", `target "default" { context = "x" }`), file("b/b.hcl", `target "default" { context = "y" }`)}, want: `"b/y"`},
		"default of second": {files: []File{file("sub/a.hcl", `target "default" {}`), file("b/b.hcl", `target "default" {}`)}, want: `"b"`},
		"inherited":         {files: []File{file("sub/a.hcl", `target "base" { context = "x" }`), file("b/b.hcl", `target "default" { inherits = ["base"] }`)}, want: `"sub/x"`},
		"inherited default": {files: []File{file("sub/a.hcl", `target "base" {}`), file("b/b.hcl", `target "default" { inherits = ["base"] }`)}, want: `"b"`},
		"copied":            {files: []File{file("sub/a.hcl", `target "base" { context = "x" }`), file("b/b.hcl", `target "default" { context = target.base.context }`)}, want: `"sub/x"`},
		"computed":          {files: []File{file("sub/a.hcl", `target "base" { context = "x" }`), file("b/b.hcl", `target "default" { context = "${target.base.context}/y" }`)}, want: `"b/x/y"`},
		"set":               {files: []File{file("sub/a.hcl", `target "default" { context = "x" }`)}, set: []string{"default.context=y"}, want: `"y"`},
		"compose":           {files: []File{file("sub/compose.yaml", "services: {default: {build: ./x}}")}, want: `"sub/x"`},
		"two compose files": {files: []File{file("sub/compose.yaml", "services: {default: {build: x}}"), file("b/more.yaml", "services: {default: {build: {target: t}}}")}, want: `"sub/x"`},
		"compose and HCL":   {files: []File{file("sub/compose.yaml", "services: {default: {build: x}}"), file("b/b.hcl", `target "default" { target = "t" }`)}, want: `"sub/x"`},
		"contexts": {
			files: []File{file("sub/a.hcl", `target "default" { contexts = { a = "x", b = "docker-image://y", c = "target:base", d = "cwd://z", e = "/abs" } }`), file("a.hcl", `target "base" {}`)},
			want:  `"sub"`, contexts: `{"a":"sub/x","b":"docker-image://y","c":"target:base","d":"cwd://z","e":"/abs"}`,
		},
		"contexts of two": {
			files: []File{file("sub/a.hcl", `target "default" { contexts = { a = "x", b = "x" } }`), file("b/b.hcl", `target "default" { contexts = { b = "y", c = "y" } }`)},
			want:  `"b"`, contexts: `{"a":"sub/x","b":"b/y","c":"b/y"}`,
		},
		"contexts, inherited": {
			files: []File{file("sub/a.hcl", `target "base" { contexts = { a = "x", b = "x" } }`), file("b/b.hcl", "target \"default\" {\n inherits = [\"base\"]\n contexts = { b = \"y\" }\n}")},
			want:  `"b"`, contexts: `{"a":"sub/x","b":"b/y"}`,
		},
		"contexts, set": {
			files: []File{file("sub/a.hcl", `target "default" { contexts = { a = "x" } }`)}, set: []string{"default.contexts.a=y"},
			want: `"sub"`, contexts: `{"a":"y"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			def, err := Read(c.files, Options{FileRelative: true, Overrides: c.set})
			if err != nil {
				t.Fatal(err)
			}
			target := def.Targets["default"]
			if got := field(t, target, "context"); got != c.want {
				t.Errorf("context %s, want %s", got, c.want)
			}
			if got := field(t, target, "contexts"); got != c.contexts {
				t.Errorf("contexts %s, want %s", got, c.contexts)
			}
		})
	}
}

func TestIsPath(t *testing.T) {
	t.Parallel()
	for context, want := range map[string]bool{
		".": true, "/x": true, "cwd://x": true, "a:b": true, "docker-image:x": false, "docker-image://x": false, "target:x": false, "oci-layout://x": false,
		"https://h/x": false, "http://h": false, "git://h/x": false, "git@h:x": false, "ssh://h/x": false,
	} {
		if got := IsPath(context); got != want {
			t.Errorf("%s: %t", context, got)
		}
	}
}
