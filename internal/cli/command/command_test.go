package command_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/command/commandtest"
	"github.com/micabuild/mica/internal/registry/registrytest"
	"github.com/micabuild/mica/internal/terminal"
	"github.com/micabuild/mica/internal/terminal/terminaltest"
	"github.com/micabuild/mica/internal/transfer"
)

func TestRequireArgs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		least, most, n int
		want           string // after the command's name; "" for none
	}{
		"none":            {0, 0, 0, ""},
		"one, not none":   {0, 0, 1, "accepts no arguments"},
		"exactly one":     {1, 1, 1, ""},
		"none, not one":   {1, 1, 0, "requires 1 argument"},
		"three, not two":  {2, 2, 3, "requires 2 arguments"},
		"any":             {1, -1, 9, ""},
		"none of any":     {1, -1, 0, "requires at least 1 argument"},
		"one of two":      {2, -1, 1, "requires at least 2 arguments"},
		"too many":        {0, 1, 2, "requires at most 1 argument"},
		"too many of two": {1, 2, 3, "requires at least 1 and at most 2 arguments"},
		"too few of two":  {1, 2, 0, "requires at least 1 argument"},
	} {
		cmd := &cobra.Command{Use: "verb [OPTIONS] X", Short: "Do it", DisableFlagsInUseLine: true}
		err := command.RequireArgs(c.least, c.most)(cmd, make([]string, c.n))
		want := ""
		if c.want != "" {
			more := "Run"
			if c.most != c.least && c.n < c.least {
				more = "See"
			}
			want = "mica: 'verb' " + c.want + "\n\nUsage:  verb [OPTIONS] X\n\n" + more + " 'verb --help' for more information"
		}
		var words command.Verbatim
		if commandtest.Text(err) != want || err != nil && !errors.As(err, &words) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

func TestGroup(t *testing.T) {
	t.Parallel()
	m := commandtest.New(t)
	group := func(*command.App) *cobra.Command {
		return command.Group("image", "Manage images", &cobra.Command{Use: "ls", RunE: func(*cobra.Command, []string) error { return errors.New("ran") }})
	}
	if got := m.Run(group, "ls"); commandtest.Text(got.Err) != "ran" {
		t.Errorf("%+v", got)
	}
	if got := m.Run(group, "dance"); commandtest.Text(got.Err) != "mica: unknown command: image dance\n\nUsage:  image [flags]\n\nRun 'image --help' for more information" {
		t.Errorf("%+v", got)
	}
}

func TestHide(t *testing.T) {
	t.Parallel()
	fl := pflag.NewFlagSet("", pflag.ContinueOnError)
	for _, name := range []string{"a", "b", "c"} {
		fl.Bool(name, false, "")
	}
	command.Hide(fl, "a", "c")
	if !fl.Lookup("a").Hidden || fl.Lookup("b").Hidden || !fl.Lookup("c").Hidden {
		t.Error(fl.FlagUsages())
	}
}

func TestFilterFlag(t *testing.T) {
	t.Parallel()
	var f command.FilterFlag
	fl := pflag.NewFlagSet("", pflag.ContinueOnError)
	fl.VarP(&f, "filter", "f", "Filter")
	if err := fl.Parse([]string{"-f", "a=b", "--filter", "c=d=e", "-f", "x"}); commandtest.Text(err) != `invalid argument "x" for "-f, --filter" flag: bad format of filter (expected name=value)` {
		t.Errorf("%v", err)
	}
	if diff := cmp.Diff(command.FilterFlag{"a=b", "c=d=e"}, f); diff != "" || f.String() != "a=b,c=d=e" {
		t.Errorf("%s\n%s", f.String(), diff)
	}
	if usage := fl.FlagUsages(); usage != "  -f, --filter filter   Filter\n" {
		t.Errorf("%q", usage)
	}
}

func TestRemoteName(t *testing.T) {
	t.Parallel()
	const digest = "@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for ref, c := range map[string]struct{ full, last string }{
		"a": {"docker.io/library/a", ""}, "a:1": {"docker.io/library/a:1", "1"}, "docker://a/b:1": {"docker.io/a/b:1", "1"},
		"h:5000/a": {"h:5000/a", ""}, "h.test/a" + digest: {"h.test/a" + digest, digest[1:]}, "h.test/a:1" + digest: {"h.test/a:1" + digest, digest[1:]},
	} {
		name, err := command.RemoteName(ref)
		if err != nil || name.String() != c.full || command.TagOrDigest(name) != c.last {
			t.Errorf("%s: %v, %v, want %s", ref, name, err, c.full)
		}
	}
	for _, ref := range []string{"", "A", "a:", "a@b", "docker://", "-a"} {
		if name, err := command.RemoteName(ref); !strings.HasPrefix(commandtest.Text(err), `invalid reference format: "`+ref+`": `) {
			t.Errorf("%s: %v, %v", ref, name, err)
		}
	}
}

func TestParsePlatforms(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		list []string
		want []ocispec.Platform
		all  bool
		err  string
	}{
		"none":    {},
		"two":     {list: []string{"linux/amd64", "linux/arm64/v8"}, want: []ocispec.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}},
		"variant": {list: []string{"linux/arm"}, want: []ocispec.Platform{{OS: "linux", Architecture: "arm", Variant: "v7"}}},
		"all":     {list: []string{"linux/amd64", "all"}, all: true},
		"no":      {list: []string{"a/b/c/d"}, err: `invalid platform "a/b/c/d": "a/b/c/d": cannot parse platform specifier: invalid argument`},
	} {
		got, all, err := command.ParsePlatforms(c.list)
		if diff := cmp.Diff(c.want, got); diff != "" || all != c.all || commandtest.Text(err) != c.err {
			t.Errorf("%s: %t, %v\n%s", name, all, err, diff)
		}
	}
}

func TestCompleteImages(t *testing.T) {
	t.Parallel()
	m := commandtest.New(t)
	m.Tag(m.Image(nil), "a:1", "b:2")
	bare := m.Image(nil, map[string]string{"f": ""})
	cmd := &cobra.Command{}
	cmd.SetContext(t.Context())
	names, directive := m.CompleteImages(cmd, nil, "")
	if directive != cobra.ShellCompDirectiveNoFileComp || len(names) != 3 {
		t.Errorf("%q, %v", names, directive)
	}
	for _, want := range []string{"a:1", "b:2", bare.ShortID()} {
		if !strings.Contains(strings.Join(names, " "), want) {
			t.Errorf("no %s in %q", want, names)
		}
	}
}

func TestConfirm(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		answer string
		want   bool
	}{{"y\n", true}, {"Y\n", true}, {" y \n", true}, {"y", true}, {"yes\n", false}, {"n\n", false}, {"\n", false}, {"", false}} {
		stdout, shown := commandtest.Output(t)
		app := &command.App{Stdin: strings.NewReader(c.answer), Stdout: stdout}
		if got := app.Confirm(t.Context(), "Sure? "); got != c.want || shown() != "Sure? " {
			t.Errorf("%q: %t, %q", c.answer, got, shown())
		}
	}
}

// TestInput: stdin is read in any pieces, and a context that ends is an error that says why.
func TestInput(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("0123456789", 20_000) // more than a buffer
	app := &command.App{Stdin: strings.NewReader(long)}
	if got, err := io.ReadAll(app.Input(t.Context())); err != nil || string(got) != long {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = r.Close(), w.Close() }()
	ctx, cancel := context.WithCancelCause(t.Context())
	app.Stdin = r
	in := app.Input(ctx)
	if _, err := w.WriteString("a"); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 8)
	if n, err := in.Read(p); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	why := errors.New("a signal")
	done := make(chan error)
	go func() {
		_, err := in.Read(p) // nobody writes
		done <- err
	}()
	cancel(why)
	if err := <-done; !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
	if _, err := in.Read(p); !errors.Is(err, why) {
		t.Errorf("after that: %v", err)
	}
}

func TestIsTerminal(t *testing.T) {
	t.Parallel()
	tty, _ := terminaltest.Screen(t)
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if !command.IsTerminal(tty) || command.IsTerminal(file) || command.IsTerminal(strings.NewReader("")) || command.IsTerminal(nil) {
		t.Error("a terminal is a file that is one")
	}
}

// TestPull: the summary goes where it is wanted, and progress to stderr.
func TestPull(t *testing.T) {
	t.Parallel()
	m, reg := commandtest.New(t), registrytest.New(t)
	image := reg.PutImage("app", "1", "amd64", nil, registrytest.Layer(t, "f", []byte("x")))
	name, err := command.RemoteName(reg.Name("app:1"))
	if err != nil {
		t.Fatal(err)
	}
	app := *m.App
	stderr, said := commandtest.Output(t)
	app.Stderr = stderr
	var summary strings.Builder
	if err := app.Pull(t.Context(), &summary, name, transfer.PullOptions{}, false); err != nil {
		t.Fatal(err)
	}
	if want := "Digest: " + image.Digest + "\nStatus: Downloaded newer image for " + reg.Name("app:1") + "\n"; summary.String() != want {
		t.Errorf("%q, want %q", summary.String(), want)
	}
	if text := said(); !strings.HasPrefix(text, "1: Pulling from app\n") || !strings.HasSuffix(text, ": Pull complete\n") {
		t.Errorf("%q", text)
	}
}

// TestCollect: an image that lost its last name to another is garbage only without a record; layers of nobody are.
func TestCollect(t *testing.T) {
	t.Parallel()
	m := commandtest.New(t)
	kept := m.Image(nil, map[string]string{"f": "kept"})
	gone := m.Image(nil, map[string]string{"f": "gone"})
	if _, err := m.Images.Remove(t.Context(), gone.ID.String(), false); err != nil {
		t.Fatal(err)
	}
	if err := m.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Layers.Get(kept.Chain()[0]); err != nil {
		t.Error(err)
	}
	if _, err := m.Layers.Get(gone.Chain()[0]); err == nil {
		t.Error("the layer of an image that was removed is there")
	}
	m.Tidy()
	(&command.App{}).Tidy() // without a store there is nothing to do
}

// TestAnswer: an error of a command whose exit code 1 is an answer has the code 2.
func TestAnswer(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = full.Close() })
	answer := &command.ExitError{Code: 1}
	for name, test := range map[string]struct {
		err     error
		written bool
		want    string
	}{
		"none":                    {nil, true, "<nil>"},
		"an answer":               {answer, true, "1: <nil>"},
		"another code":            {&command.ExitError{Code: 64, Err: io.EOF}, true, "64: EOF"},
		"an error":                {io.EOF, true, "2: EOF"},
		"a mistake in a flag":     {&command.UsageError{Err: io.EOF}, true, "EOF"},
		"a signal":                {context.Canceled, true, "context canceled"},
		"unwritten output":        {nil, false, "2: write to stdout: no space left on device"},
		"unwritten answer":        {answer, false, "2: write to stdout: no space left on device"},
		"unwritten, and an error": {io.EOF, false, "2: EOF"},
	} {
		stdout, _ := commandtest.Output(t)
		app := &command.App{Stdout: stdout}
		if !test.written {
			app.Stdout = terminal.NewWriter(full)
			fmt.Fprintln(app.Stdout, "x")
		}
		err := app.Answer(test.err)
		got := fmt.Sprint(err)
		if exit := new(command.ExitError); errors.As(err, &exit) {
			got = fmt.Sprintf("%d: %v", exit.Code, exit.Err)
		}
		if got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}
