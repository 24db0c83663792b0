// Package dockerfile checks Dockerfiles before the compiler sees them: their size once expanded, their ignore files, their front end.
// It also converts the instructions of docker import --change.
package dockerfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"sync"

	"github.com/docker/go-units"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
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

// Checker checks the Dockerfile of a build before the compiler expands it. A nil Checker checks nothing.
type Checker struct {
	args map[string]string

	mu       sync.Mutex
	name     string
	text     []byte
	env      map[string]string // of base images, the longest value of each name
	triggers []string          // ONBUILD of base images
	ignore   error             // of the ignore file
}

// NewChecker returns a Checker for a build with a front end's options, of which it uses the build arguments.
func NewChecker(opts map[string]string) *Checker {
	c := &Checker{args: map[string]string{}, env: map[string]string{}}
	for k, v := range opts {
		if name, ok := strings.CutPrefix(k, "build-arg:"); ok {
			c.args[name] = v
		}
	}
	return c
}

// File checks a file that the compiler reads: a Dockerfile or an ignore file.
func (c *Checker) File(name string, text []byte) error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if strings.HasSuffix(name, ".dockerignore") {
		c.ignore = checkIgnoreFile(path.Base(name), text)
		return c.ignore
	}
	c.name, c.text = path.Base(name), text
	return c.check()
}

// IgnoreError returns the error of the ignore file, if File found one. The compiler drops an error of reading an ignore file, and does
// not report which file has an invalid pattern.
func (c *Checker) IgnoreError() error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ignore
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

// Base adds the variables and triggers of a base image. The compiler expands nothing before it has all base images.
func (c *Checker) Base(config []byte) error {
	if c == nil {
		return nil
	}
	var img dockerspec.DockerOCIImage
	if json.Unmarshal(config, &img) != nil {
		return nil // the compiler will report it
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, kv := range img.Config.Env {
		name, value, _ := strings.Cut(kv, "=")
		if old, ok := c.env[name]; !ok || len(old) < len(value) {
			c.env[name] = value
		}
	}
	c.triggers = append(c.triggers, img.Config.OnBuild...)
	return c.check()
}

// check estimates the work of the compiler, which reports all other errors in a Dockerfile.
func (c *Checker) check() error {
	parsed, err := parser.Parse(bytes.NewReader(c.text))
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	// A "# check=" before an instruction needs a linter: one that reports nothing.
	stages, global, err := instructions.Parse(parsed.AST, linter.New(&linter.Config{}))
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	m := newMeter(parsed.EscapeToken, c.args)
	if err := m.dockerfile(stages, global, origin{c.env, c.triggers}); err != nil {
		err.File = c.name
		return err
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

// LimitError is a limit that a Dockerfile exceeds, and the line where it does.
type LimitError struct {
	File   string
	Line   int // 0 if it is unknown
	reason string
}

func (e *LimitError) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.reason) }

func over(format string, args ...any) *LimitError {
	return &LimitError{reason: fmt.Sprintf(format, args...)}
}

func size(n int64) string { return units.BytesSize(float64(n)) }
