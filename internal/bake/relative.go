package bake

import (
	"path/filepath"
	"strings"

	"github.com/docker/buildx/util/urlutil"
	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// contextBase has the directories of the files that set a target's contexts. With BUILDX_BAKE_FILE_RELATIVE_PATHS, paths are
// relative to them.
type contextBase struct {
	file     *string           // of the target
	context  *string           // of its context
	of       string            // the target whose context an expression copies
	contexts map[string]string // of its named contexts
	relative bool              // a target without a context has its file's directory
}

func (b *contextBase) read(t *Target, block *hcl.Block) {
	dir, _ := fileDir(block.DefRange.Filename)
	b.file = &dir
	attrs, err := attributes(block, "context", "contexts")
	if err != nil {
		return
	}
	if attr, ok := attrs["context"]; ok {
		b.context, b.of = &dir, contextOf(attr.Expr)
	}
	if _, ok := attrs["contexts"]; ok {
		b.setContexts(t, dir)
	}
}

func (b *contextBase) setContexts(t *Target, dir string) {
	for name := range t.Contexts {
		b.contexts = merged(b.contexts, map[string]string{name: dir})
	}
}

// contextOf is the target of an expression target.NAME.context, "" for any other.
func contextOf(expr hcl.Expression) string {
	traversal, diags := hcl.AbsTraversalForExpr(expr)
	if diags.HasErrors() || len(traversal) != 3 {
		return ""
	}
	root, isRoot := traversal[0].(hcl.TraverseRoot)
	field, isField := traversal[2].(hcl.TraverseAttr)
	if !isRoot || root.Name != "target" || !isField || field.Name != "context" {
		return ""
	}
	switch step := traversal[1].(type) {
	case hcl.TraverseAttr:
		return step.Name
	case hcl.TraverseIndex:
		if key, err := convert.Convert(step.Key, cty.String); err == nil && !key.IsNull() && key.IsKnown() {
			return key.AsString()
		}
	}
	return ""
}

// merge merges the directories of two targets, before Target.Merge merges their contexts.
func (b *contextBase) merge(t2 *Target) {
	o := &t2.base
	if o.file != nil {
		b.file, b.relative = o.file, o.relative
	}
	if t2.Context != nil {
		b.context, b.of = o.context, o.of
	}
	for name := range t2.Contexts {
		dir, ok := o.contexts[name]
		if ok {
			b.contexts = merged(b.contexts, map[string]string{name: dir})
		} else {
			delete(b.contexts, name)
		}
	}
}

// fallback is the default context.
func (b *contextBase) fallback() string {
	if b.relative && b.file != nil {
		return rebase(*b.file, ".")
	}
	return "."
}

// setFileDirs makes the targets of compose files relative to the first of the files.
func (c *Config) setFileDirs(files []File) {
	dir, ok := fileDir(files[0].Name)
	if !ok {
		return
	}
	for _, t := range c.Targets {
		t.base.file = &dir
		if t.Context != nil {
			t.base.context = &dir
		}
		t.base.setContexts(t, dir)
	}
}

// rebase makes the paths of contexts relative to the working directory.
func (c *Config) rebase() {
	for _, t := range c.Targets {
		if other := c.target(t.base.of); other != nil {
			switch {
			case other.base.context != nil:
				t.base.context = other.base.context
			case other.base.file != nil:
				t.base.context = other.base.file
			}
		}
		switch {
		case t.Context == nil:
			t.base.relative = t.base.file != nil
		case t.base.context != nil:
			t.Context = ref(rebase(*t.base.context, *t.Context))
		}
		for name, path := range t.Contexts {
			if dir, ok := t.base.contexts[name]; ok {
				t.Contexts[name] = rebase(dir, path)
			}
		}
	}
}

// fileDir is the directory of a file that is neither stdin nor remote.
func fileDir(name string) (string, bool) {
	if name == "" || name == "-" || urlutil.IsRemoteURL(name) {
		return "", false
	}
	return filepath.Dir(name), true
}

func rebase(dir, path string) string {
	if dir == "" || path == "" || filepath.IsAbs(path) || !IsPath(path) || strings.HasPrefix(path, "cwd://") {
		return path
	}
	return filepath.Join(dir, filepath.FromSlash(path))
}

// IsPath reports whether a context is a directory of the host, with or without "cwd://" before it.
func IsPath(context string) bool {
	for _, prefix := range []string{"target:", "docker-image:", "oci-layout://"} {
		if strings.HasPrefix(context, prefix) {
			return false
		}
	}
	return !urlutil.IsRemoteURL(context)
}
