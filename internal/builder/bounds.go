package builder

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"sync"

	"github.com/docker/go-units"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// Limits of what the compiler does for a Dockerfile. A few lines of `ARG A=$A$A` expand to more than all memory, and for every
// instruction the compiler visits every variable.
const (
	maxValue    = 1 << 20   // bytes that variables add to one value; Linux passes 128 KiB of a variable to a process
	maxReplaced = 16 << 20  // bytes that ${NAME/pattern/replacement} may give
	maxExpanded = 64 << 20  // bytes of all values
	maxPassed   = 256 << 20 // bytes of the variables that all RUN instructions have
	maxVisits   = 64 << 20  // visits of variables by instructions: about three seconds
	maxPorts    = 4 << 16   // of EXPOSE
	maxBraces   = 100       // depth of ${A:-${B:-…}}
	maxIgnored  = 10_000    // patterns of an ignore file
	stageVisits = 32        // visits for each variable that a stage inherits
)

// bounds checks the Dockerfile of a build before the compiler expands it.
type bounds struct {
	args map[string]string

	mu       sync.Mutex
	name     string
	text     []byte
	env      map[string]string // of base images, the longest value of each name
	triggers []string          // ONBUILD of base images
	ignore   error             // what is wrong with an ignore file
}

// newBounds takes the build arguments out of a front end's options.
func newBounds(opts map[string]string) *bounds {
	b := &bounds{args: map[string]string{}, env: map[string]string{}}
	for k, v := range opts {
		if name, ok := strings.CutPrefix(k, "build-arg:"); ok {
			b.args[name] = v
		}
	}
	return b
}

// file checks a file that the compiler reads: a Dockerfile or an ignore file.
func (b *bounds) file(name string, text []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if strings.HasSuffix(name, ".dockerignore") {
		b.ignore = checkIgnoreFile(path.Base(name), text)
		return b.ignore
	}
	b.name, b.text = path.Base(name), text
	return b.check()
}

// ignoreError is what is wrong with an ignore file. The compiler drops an error of reading one, and does not say in which file a
// bad pattern is.
func (b *bounds) ignoreError() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ignore
}

// checkIgnoreFile checks the patterns of an ignore file.
func checkIgnoreFile(name string, text []byte) error {
	if n := bytes.Count(text, []byte("\n")); n > maxIgnored {
		return fmt.Errorf("%s has %d lines: at most %d patterns are supported", name, n, maxIgnored)
	}
	number := 0
	for line := range bytes.Lines(text) {
		number++
		patterns, err := ignorefile.ReadAll(bytes.NewReader(line))
		if err == nil {
			_, err = patternmatcher.New(patterns)
		}
		if err != nil {
			return fmt.Errorf("%s:%d: invalid pattern %q: %w", name, number, bytes.TrimSpace(line), err)
		}
	}
	return nil
}

// base adds the variables and triggers of a base image. The compiler expands nothing before it has all base images.
func (b *bounds) base(config []byte) error {
	var img dockerspec.DockerOCIImage
	if json.Unmarshal(config, &img) != nil {
		return nil // the compiler will report it
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, kv := range img.Config.Env {
		name, value, _ := strings.Cut(kv, "=")
		if old, ok := b.env[name]; !ok || len(old) < len(value) {
			b.env[name] = value
		}
	}
	b.triggers = append(b.triggers, img.Config.OnBuild...)
	return b.check()
}

// check estimates the work of the compiler, which reports all other mistakes in a Dockerfile.
func (b *bounds) check() error {
	parsed, err := parser.Parse(bytes.NewReader(b.text))
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	stages, global, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	m := newMeter(parsed.EscapeToken, b.args)
	if err := m.dockerfile(stages, global, origin{b.env, b.triggers}); err != nil {
		return &LimitError{File: b.name, Line: err.line, reason: err.reason}
	}
	return nil
}

// origin is what a stage inherits from a base image: from any of them, since it is not known which.
type origin struct {
	env      map[string]string
	triggers []string
}

// commands are those of the triggers.
func (o *origin) commands() (list []instructions.Command) {
	for _, line := range o.triggers {
		parsed, err := parser.Parse(strings.NewReader(line))
		if err != nil {
			continue
		}
		for _, node := range parsed.AST.Children {
			if c, err := instructions.ParseCommand(node); err == nil {
				list = append(list, c)
			}
		}
	}
	return list
}

// LimitError says where a Dockerfile exceeds a limit.
type LimitError struct {
	File   string
	Line   int
	reason string
}

func (e *LimitError) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.reason) }

// overBound is a limit that an instruction exceeds.
type overBound struct {
	line   int
	reason string
}

func (e *overBound) Error() string { return e.reason }

func over(format string, args ...any) *overBound {
	return &overBound{reason: fmt.Sprintf(format, args...)}
}

func size(n int64) string { return units.BytesSize(float64(n)) }
