package cli

import (
	"context"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/command/commandtest"
)

// tree is a mica with a few commands: "build" is a common one, "image" a group, "hidden" shown nowhere.
func tree(app *command.App) *cobra.Command {
	nothing := func(*cobra.Command, []string) error { return nil }
	root := &cobra.Command{Use: "mica [OPTIONS] COMMAND [ARG...]", Short: "Build images", RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	root.SetOut(app.Stdout)
	app.AddFlags(root.PersistentFlags())
	build := &cobra.Command{Use: "build [OPTIONS] PATH", Short: "Build an image", RunE: nothing}
	build.Flags().StringP("tag", "t", "", "Name")
	build.Flags().Bool("old", false, "Old")
	command.Hide(build.Flags(), "old")
	root.AddCommand(common(build)...)
	root.AddCommand(
		command.Group("image", "Manage images", &cobra.Command{Use: "ls", Short: "List images", RunE: nothing}),
		&cobra.Command{Use: "info", Short: "Show information", RunE: nothing},
		&cobra.Command{Use: "hidden", Hidden: true, RunE: nothing},
	)
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(&cobra.Command{Hidden: true})
	useDockersHelp(root)
	return root
}

// TestHelp: the sections, and what is in them, are those of docker.
func TestHelp(t *testing.T) {
	t.Parallel()
	const globals = "      --root string   Directory of the store (default: $MICA_ROOT, /var/lib/mica, or\n                      ~/.local/share/mica)\n"
	for args, want := range map[string]string{
		"--help": "Usage:  mica [OPTIONS] COMMAND [ARG...]\n\nBuild images\n\nCommon Commands:\n  build       Build an image\n\n" +
			"Management Commands:\n  image       Manage images\n\nCommands:\n  info        Show information\n\n" +
			"Options:\n  -h, --help          help for mica\n" + globals + "\nRun 'mica COMMAND --help' for more information on a command.\n",
		"build --help": "Usage:  mica build [OPTIONS] PATH\n\nBuild an image\n\nOptions:\n  -h, --help         help for build\n  -t, --tag string   Name\n\nGlobal Options:\n" + globals,
		"image --help": "Usage:  mica image COMMAND\n\nManage images\n\nCommands:\n  ls          List images\n\nOptions:\n  -h, --help   help for image\n\nGlobal Options:\n" + globals +
			"\nRun 'mica image COMMAND --help' for more information on a command.\n",
	} {
		code, stdout, stderr := runTree(t, tree, strings.Fields(args)...)
		if diff := cmp.Diff(want, stdout); diff != "" || code != 0 || stderr != "" {
			t.Errorf("%s: exit code %d, %q\n%s", args, code, stderr, diff)
		}
	}
	_, help, _ := runTree(t, tree, "--help")
	if _, bare, _ := runTree(t, tree); bare != help {
		t.Errorf("without arguments: %s", bare)
	}
}

func runTree(t *testing.T, root func(*command.App) *cobra.Command, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	app := &command.App{Args: append([]string{"mica"}, args...)}
	var out, errs func() string
	app.Stdout, out = commandtest.Output(t)
	app.Stderr, errs = commandtest.Output(t)
	code = run(t.Context(), app, root(app))
	return code, out(), errs()
}

// walk calls visit for every command.
func walk(c *cobra.Command, visit func(*cobra.Command)) {
	visit(c)
	for _, sub := range c.Commands() {
		walk(sub, visit)
	}
}

// TestEveryCommand: each has what its help and the manual show, a name and aliases of its own, and is run by something.
func TestEveryCommand(t *testing.T) {
	t.Parallel()
	sentence := regexp.MustCompile(`^[A-Z].*[^.]$`)
	capital := regexp.MustCompile(`^[A-Z]`)
	count := 0
	walk(newRootCommand(&command.App{}), func(c *cobra.Command) {
		count++
		path := c.CommandPath()
		if !sentence.MatchString(c.Short) || c.RunE == nil || c.Args == nil {
			t.Errorf("%s: %q, runs: %t, checks its arguments: %t", path, c.Short, c.RunE != nil, c.Args != nil)
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if !capital.MatchString(f.Usage) && !f.Hidden {
				t.Errorf("%s --%s: %q", path, f.Name, f.Usage)
			}
		})
		names := map[string]bool{}
		for _, sub := range c.Commands() {
			for _, name := range append(slices.Clone(sub.Aliases), sub.Name()) {
				if names[name] {
					t.Errorf("%s has two commands %s", path, name)
				}
				names[name] = true
			}
		}
	})
	if count < 40 {
		t.Errorf("there are only %d commands", count)
	}
}

// TestGroups: a command of a group is the one with the short name.
func TestGroups(t *testing.T) {
	t.Parallel()
	root := newRootCommand(&command.App{})
	for group, short := range map[string]string{
		"image ls": "images", "image list": "images", "image rm": "rmi", "image remove": "rmi", "image tag": "tag", "image history": "history", "image save": "save", "image load": "load",
		"image import": "import", "image pull": "pull", "image push": "push", "image build": "build", "builder build": "build", "b": "build", "f": "bake", "container run": "run", "system info": "info",
	} {
		long, _, err := root.Find(strings.Fields(group))
		same, _, sameErr := root.Find([]string{short})
		if err != nil || sameErr != nil || long.Short != same.Short {
			t.Errorf("%s is %s, %s is %s", group, long.CommandPath(), short, same.CommandPath())
			continue
		}
		same.Flags().VisitAll(func(f *pflag.Flag) {
			if long.Flags().Lookup(f.Name) == nil {
				t.Errorf("%s has no --%s", group, f.Name)
			}
		})
	}
}

// TestCompletion: where a command takes an image, the shell completes its name.
func TestCompletion(t *testing.T) {
	t.Parallel()
	m := commandtest.New(t)
	m.Tag(m.Image(nil), "app:1")
	complete := func(args ...string) string {
		app := *m.App
		app.Args = append([]string{"mica", "__complete"}, append(args, "")...)
		var out func() string
		app.Stdout, out = commandtest.Output(t)
		app.Stderr, _ = commandtest.Output(t)
		if code := run(t.Context(), &app, newRootCommand(&app)); code != 0 {
			t.Errorf("%q: exit code %d", args, code)
		}
		return out()
	}
	for _, name := range []string{"history", "inspect", "tag", "rmi", "run", "save", "export", "image rm", "image inspect"} {
		if got := complete(strings.Fields(name)...); !strings.HasPrefix(got, "app:1\n") {
			t.Errorf("%s: %q", name, got)
		}
	}
	for _, name := range []string{"pull", "build", "info", "manifest rm"} {
		if got := complete(strings.Fields(name)...); strings.Contains(got, "app:1") {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestCompletionScripts(t *testing.T) {
	t.Parallel()
	for shell, want := range map[string]string{"bash": "__start_mica", "zsh": "#compdef mica", "fish": "complete -c mica", "powershell": "Register-ArgumentCompleter"} {
		code, stdout, stderr := runTree(t, newRootCommand, "completion", shell)
		if code != 0 || !strings.Contains(stdout, want) || stderr != "" {
			t.Errorf("%s: exit code %d, %d bytes without %q, %q", shell, code, len(stdout), want, stderr)
		}
	}
}

// TestWrapped: the lines of a help text have as many words as fit.
func TestWrapped(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "", "one": "one", "one two three": "one two\nthree", "one\ntwo\n\nthree": "one two\n\nthree", "alongerword a": "alongerword\na", "a alongerword": "a\nalongerword",
	} {
		if got := wrapped(text, 8); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestInterruptible: a signal is the cause of the context's end. A second one that comes with it, as from timeout(1), is the same.
func TestInterruptible(t *testing.T) {
	ctx, stop := interruptible()
	defer stop()
	for range 2 {
		if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	<-ctx.Done()
	var sig interrupted
	if cause := context.Cause(ctx); !errors.As(cause, &sig) || sig.sig != syscall.SIGTERM {
		t.Errorf("%v", cause)
	}
}
