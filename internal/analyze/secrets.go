package analyze

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/micabuild/mica/internal/analyze/filetree"
)

// The bounds of what is read in search of secrets.
const (
	maxSecretFile   = 1 << 20   // of a file whose name is that of a file with secrets
	maxSecretFiles  = 5000      // how many of them
	maxSecretReads  = 128 << 20 // bytes of all of them
	maxConfigFile   = 64 << 10  // of another file
	maxConfigFiles  = 10_000    // how many other files
	maxConfigReads  = 128 << 20 // bytes of all of them
	secretsAtMost   = 200       // findings
	secretInContext = "every layer stays in the image: change the secret, and give it to the build with RUN --mount=type=secret"
)

// budget is how much may still be read.
type budget struct {
	files int
	bytes int64
}

// take takes a file of a size from the budget. It reports false, and takes nothing, if the budget does not have it.
func (b *budget) take(size int64) bool {
	if b.files == 0 || b.bytes < size {
		return false
	}
	b.files--
	b.bytes -= size
	return true
}

// candidate is a version of a file that may hold a secret.
type candidate struct {
	node    *filetree.Node
	version *filetree.Version
	path    string
	file    *secretFile // nil for one that is only searched for tokens
}

// secrets finds credentials in the files of all layers, those included that are not in the image any more, and in the config.
func (a *analysis) secrets(ctx context.Context) ([]Finding, error) {
	list := a.configSecrets()
	byLayer := a.candidates()
	for layer, found := range byLayer {
		more, err := a.readSecrets(ctx, layer, found)
		if err != nil {
			return nil, err
		}
		list = append(list, more...)
	}
	return first(list, secretsAtMost), nil
}

// candidates lists the files that may hold secrets, by their layers. Files whose names say so have a budget of their own: many others
// do not hide them.
func (a *analysis) candidates() [][]candidate {
	list := make([][]candidate, a.tree.Layers)
	named, others := budget{maxSecretFiles, maxSecretReads}, budget{maxConfigFiles, maxConfigReads}
	known := knownSecretFiles()
	var walk func(n *filetree.Node, library bool)
	walk = func(n *filetree.Node, library bool) {
		if !library && len(n.Children) > 0 {
			library = isLibraryDir(n.Path())
		}
		for i := range n.Versions {
			v := &n.Versions[i]
			if v.Bytes() == 0 || v.Layer < 0 {
				continue
			}
			f := known.match(n.Name, n.Path)
			if f != nil && f.ours && library {
				f = nil
			}
			size, read := v.Size(), true
			switch {
			case f == nil && (library || !mayHaveTokens(n.Name, v.Size())):
				continue
			case f == nil:
				read = others.take(size)
			case f.content != "": // whose name does not say enough
				read = size <= maxSecretFile && named.take(size)
			}
			if !read {
				a.report.SecretsUnread++
				continue
			}
			list[v.Layer] = append(list[v.Layer], candidate{n, v, n.Path(), f})
		}
		for _, kid := range n.Children {
			walk(kid, library)
		}
	}
	walk(a.tree.Root, false)
	return list
}

// mayHaveTokens reports whether a file is searched though its name is not that of a file with secrets.
func mayHaveTokens(name string, size int64) bool {
	return size <= maxConfigFile && (configEnds[path.Ext(name)] && !isTest(name) || isEnvFile(name))
}

// readSecrets searches the candidates of a layer. One whose name says enough is not read.
func (a *analysis) readSecrets(ctx context.Context, layer int, list []candidate) (found []Finding, err error) {
	byPath := map[string]*candidate{}
	var paths []string
	for i := range list {
		c := &list[i]
		switch {
		case c.file != nil && c.file.content == "":
			found = append(found, a.secretFinding(c, c.file.what, 0))
		case a.image.Layers[layer].Read == nil && c.file != nil:
			a.report.SecretsUnread++
		case a.image.Layers[layer].Read != nil:
			byPath[c.path] = c
			paths = append(paths, c.path)
		}
	}
	if len(paths) > 0 {
		var content bytes.Buffer
		err = a.image.Layers[layer].Read(ctx, paths, func(p string, r io.Reader) error {
			c := byPath[p]
			if c == nil {
				return nil
			}
			content.Reset()
			if _, err := io.Copy(&content, io.LimitReader(r, maxSecretFile)); err != nil {
				return err
			}
			if what, line := secretIn(c.file, c.node.Name, content.Bytes()); what != "" {
				found = append(found, a.secretFinding(c, what, line))
			}
			return ctx.Err()
		})
	}
	slices.SortFunc(found, func(a, b Finding) int { return strings.Compare(a.Path, b.Path) })
	return found, err
}

// secretFinding describes a secret in a file, and never what it is.
func (a *analysis) secretFinding(c *candidate, what string, line int) Finding {
	f := Finding{Kind: KindSecret, Path: c.path, Step: a.step(c.version.Layer), Bytes: c.version.Size(), Files: 1}
	f.Text = "the file holds " + what
	if line > 0 {
		f.Text += fmt.Sprintf(", on line %d", line)
	}
	if now := c.node.At(a.tree.Layers); now != c.version {
		f.Text += fmt.Sprintf(" (hidden by step %d, but still in the layer)", a.step(a.hiddenBy(c)))
	}
	f.Advice = secretInContext
	if c.file != nil && c.file.what == "a key store" {
		f.Advice = "if it has private keys, " + secretInContext
	}
	return f
}

// hiddenBy is the layer that hides a version.
func (a *analysis) hiddenBy(c *candidate) int {
	for i := range c.node.Versions {
		if &c.node.Versions[i] == c.version {
			return c.node.Versions[i+1].Layer
		}
	}
	return -1
}

// configSecrets finds secrets in the environment, the labels and the history of an image.
func (a *analysis) configSecrets() (list []Finding) {
	said := map[string]bool{} // as secretsIn says it of the instruction
	add := func(text, name, what, advice string) {
		list = append(list, Finding{Kind: KindSecret, Text: fmt.Sprintf("the %s %s holds %s", text, name, what), Advice: advice})
		said[valueFor(name)], said[what] = true, true
	}
	for _, env := range a.image.Config.Config.Env {
		name, value, _ := strings.Cut(env, "=")
		if what := secretValue(name, value); what != "" {
			add("variable", name, what, "set it when the container runs (run --env, --env-file), and change the secret")
		}
	}
	labels := a.image.Config.Config.Labels
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if what := secretValue(name, labels[name]); what != "" {
			add("label", name, what, "remove the label, and change the secret")
		}
	}
	return append(list, a.historySecrets(said)...)
}

// historySecrets finds secrets in the commands that made an image. A build argument is in the command of every RUN after it. What was
// said of the config is not said again of the ENV or LABEL that set it.
func (a *analysis) historySecrets(said map[string]bool) (list []Finding) {
	seen := map[string]bool{}
	for i, h := range a.image.Config.History {
		word, _, _ := strings.Cut(Instruction(h.CreatedBy), " ")
		sets := word == "ENV" || word == "LABEL"
		for _, name := range secretsIn(h.CreatedBy) {
			if seen[name] || sets && said[name] {
				continue
			}
			seen[name] = true
			list = append(list, Finding{
				Kind: KindSecret, Step: i + 1, Text: "the command has " + name + " in it",
				Advice: "the history stays in the image: change the secret, and use RUN --mount=type=secret in place of ARG and ENV",
			})
		}
	}
	return list
}

// secretValue says what secret a named value is, "" for none.
func secretValue(name, value string) string {
	if what, _ := findToken(value); what != "" {
		return what
	}
	switch {
	case IsSecretName(name) && !isReference(value):
		return "a secret, as its name says"
	case len(secretsIn(value)) > 0:
		return "a password or token"
	}
	return ""
}
