// Package commandtest has what tests of commands share: mica with a store and a configuration of its own, the output of a command, and
// images.
package commandtest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/terminal"
	"github.com/micabuild/mica/internal/view"
)

// Output is a stream in a file, and what was written to it.
func Output(t testing.TB) (*terminal.Writer, func() string) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	w := terminal.NewWriter(f)
	return w, func() string {
		t.Helper()
		flushErr := w.Flush()
		text, err := os.ReadFile(f.Name())
		if err := errors.Join(flushErr, err); err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
}

// Text is the text of an error, "" for none.
func Text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Mica is mica with an empty store and an empty configuration. Its client of registries retries at once.
type Mica struct {
	*command.App
	t testing.TB
}

// New makes a mica that lasts as long as the test.
func New(t testing.TB) *Mica {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	docker := configfile.New(filepath.Join(t.TempDir(), "config.json"))
	app := &command.App{
		Catalog: filepath.Join(t.TempDir(), "not-installed"),
		Docker:  docker,
		Client:  registry.New(registry.Options{Docker: docker, RegistriesConf: os.DevNull, UserAgent: "test", FirstWait: time.Millisecond}),
	}
	app.UseStore(s)
	return &Mica{app, t}
}

// Result is what a command printed, and its error.
type Result struct {
	Stdout, Stderr string
	Err            error
}

// Run runs a command with arguments, and with nothing on stdin.
func (m *Mica) Run(newCommand func(*command.App) *cobra.Command, args ...string) Result {
	m.t.Helper()
	return m.RunWith(m.t.Context(), strings.NewReader(""), newCommand, args...)
}

// RunWith runs a command in ctx, with stdin.
func (m *Mica) RunWith(ctx context.Context, stdin io.Reader, newCommand func(*command.App) *cobra.Command, args ...string) Result {
	m.t.Helper()
	app := *m.App
	var stdout, stderr func() string
	app.Stdin = stdin
	app.Stdout, stdout = Output(m.t)
	app.Stderr, stderr = Output(m.t)
	cmd := newCommand(&app)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(append([]string{}, args...))
	err := cmd.ExecuteContext(ctx)
	return Result{stdout(), stderr(), err}
}

// Created is when images of tests were made.
var Created = time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)

// Image makes an image with a layer for each of the maps from names to content. change, unless it is nil, changes its config.
func (m *Mica) Image(change func(config map[string]any), layers ...map[string]string) *image.Image {
	m.t.Helper()
	ids := []digest.Digest{}
	for _, files := range layers {
		ids = append(ids, m.layer(files))
	}
	config := map[string]any{
		"architecture": "amd64", "os": "linux", "created": Created, "rootfs": map[string]any{"type": "layers", "diff_ids": ids},
	}
	if change != nil {
		change(config)
	}
	raw, err := json.Marshal(config)
	if err != nil {
		m.t.Fatal(err)
	}
	img, err := m.Images.Create(m.t.Context(), image.Draft{Config: raw})
	if err != nil {
		m.t.Fatal(err)
	}
	return img
}

// Tag gives an image names.
func (m *Mica) Tag(img *image.Image, names ...string) *image.Image {
	m.t.Helper()
	for _, n := range names {
		if err := m.Images.Tag(m.t.Context(), img, n); err != nil {
			m.t.Fatal(err)
		}
	}
	return img
}

// layer makes a layer of files in the root directory.
func (m *Mica) layer(files map[string]string) digest.Digest {
	m.t.Helper()
	data := map[string][]byte{}
	var changes []view.Change
	for name, text := range files {
		data[name] = []byte(text)
	}
	for name, text := range files {
		changes = append(changes, view.Change{
			Entry:  &view.Entry{Path: name, Type: view.TypeRegular, Mode: 0o644, Size: int64(len(text))},
			Source: view.Files(data), SourcePath: name,
		})
	}
	slices.SortFunc(changes, func(a, b view.Change) int { return strings.Compare(a.Entry.Path, b.Entry.Path) })
	l, err := m.Layers.Write(m.t.Context(), changes, layer.AsBlob)
	if err != nil {
		m.t.Fatal(err)
	}
	return l.DiffID
}

// File writes a file in a new directory and returns its name.
func File(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

var gaps = regexp.MustCompile(` {2,}`)

// Columns returns a table with two spaces between columns and none at the ends of lines. The age of the images of tests is "AGE ago".
func Columns(table string) string {
	age := units.HumanDuration(time.Since(Created)) + " ago"
	lines := strings.Split(strings.ReplaceAll(table, age, "AGE ago"), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(gaps.ReplaceAllString(l, "  "), " ")
	}
	return strings.Join(lines, "\n")
}
