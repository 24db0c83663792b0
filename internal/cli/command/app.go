// Package command has what mica's commands share: the application, arguments and flags, errors, names, streams, and files of output.
package command

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/cgroup"
	"github.com/micabuild/mica/internal/hostfiles"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/isolation"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/terminal"
	"github.com/micabuild/mica/internal/transfer"
	"github.com/micabuild/mica/internal/userns"
	"github.com/micabuild/mica/internal/version"
)

// App is the state that commands share: the streams, the global flags, and the store after Open.
type App struct {
	Stdin          io.Reader
	Stdout, Stderr *terminal.Writer
	Args           []string // os.Args, to start again with

	Store  *store.Store
	Layers *layer.Layers
	Images *image.Images

	// Catalog is the path of mica-catalog, "" to find it.
	Catalog string

	Docker *configfile.ConfigFile // nil until DockerConfig reads it
	Client *registry.Client       // nil until Registry makes it

	// Isolation is how processes of steps and containers run. It is found by Open.
	Isolation isolation.Found

	root      string // --root
	isolation string // --isolation
	umask     os.FileMode
}

// AddFlags adds the flags that every command has.
func (a *App) AddFlags(fl *pflag.FlagSet) {
	fl.StringVar(&a.root, "root", "", "Directory of the store (default: $MICA_ROOT, /var/lib/mica, or ~/.local/share/mica)")
}

// AddIsolation adds the flag of commands that run processes.
func (a *App) AddIsolation(fl *pflag.FlagSet) {
	fl.StringVar(&a.isolation, "isolation", "", "How processes are isolated: auto, oci, chroot, fakeroot, none (default: $MICA_ISOLATION, else auto)")
}

// RootFlag is the value of --root, "" if it is not set.
func (a *App) RootFlag() string { return a.root }

// SetRoot sets the directory of the store where --root does not.
func (a *App) SetRoot(dir string) { a.root = cmp.Or(a.root, dir) }

// DockerConfig is docker's configuration file: credentials, proxies. It is read once.
func (a *App) DockerConfig() *configfile.ConfigFile {
	if a.Docker == nil {
		a.Docker = config.LoadDefaultConfigFile(a.Stderr)
	}
	return a.Docker
}

// Registry is the client of registries.
func (a *App) Registry() *registry.Client {
	if a.Client == nil {
		a.Client = registry.New(registry.Options{Docker: a.DockerConfig(), UserAgent: "mica/" + version.String()})
	}
	return a.Client
}

// Local is the opened store, as transfers take it.
func (a *App) Local() *transfer.Local {
	return &transfer.Local{Store: a.Store, Layers: a.Layers, Images: a.Images}
}

// Open opens the store. An ordinary user becomes root in a user namespace first, in which the files of images can keep
// their owners: Open then does not return, and the process starts again. Where there can be no such namespace, as in most pods, all goes on
// without, but for processes.
func (a *App) Open(ctx context.Context) error {
	if a.Store != nil {
		return nil
	}
	mode, err := isolation.Parse(a.isolation)
	if err != nil {
		return &UsageError{Err: err}
	}
	if a.Isolation, err = isolation.Find(ctx, mode, a.Args); err != nil {
		return err
	}
	// The user's umask is for the user's files, not for those of images.
	a.umask = os.FileMode(syscall.Umask(0o022))
	dir, err := a.storeDir()
	if err != nil {
		return err
	}
	s, err := store.Open(dir)
	if err != nil {
		return err
	}
	a.UseStore(s)
	return nil
}

// UseStore makes commands work with a store that is open.
func (a *App) UseStore(s *store.Store) {
	a.Store = s
	a.Layers = layer.New(s)
	a.Layers.SetFetch(func(ctx context.Context, repository string, desc ocispec.Descriptor) (io.ReadCloser, error) {
		return a.Registry().OpenBlob(ctx, repository, desc)
	})
	a.Images = image.New(s, a.Layers)
}

// OpenLimited opens the store for processes that controllers of cgroups limit, or that have a parent cgroup.
func (a *App) OpenLimited(ctx context.Context, controllers []string, parent string) error {
	if len(controllers) > 0 || parent != "" {
		if err := cgroup.Prepare(a.Args, controllers); err != nil {
			return err
		}
	}
	return a.Open(ctx)
}

// OpenForClients opens the store for processes of others, who may limit them as far as this host and this user can.
func (a *App) OpenForClients(ctx context.Context) error {
	if a.Store == nil {
		cgroup.Offer(a.Args)
	}
	return a.Open(ctx)
}

// NewHost returns the host of processes, which an OCI runtime starts (see [sandbox.NewHost]).
func (a *App) NewHost(runtime string) (*sandbox.Host, error) {
	host, err := sandbox.NewHost(a.Store, runtime)
	if err != nil {
		return nil, err
	}
	host.Refuse(a.Isolation.Unable())
	switch a.Isolation.Mode {
	case isolation.Chroot:
		host.UseChroot()
	case isolation.Fakeroot:
		if err := a.prepareForSteps(); err != nil {
			return nil, err
		}
		a.Isolation.Root.Keep(a.Store.Root())
		hostfiles.SetLender(a.Isolation.Root)
		host.UseRoot(a.Isolation.Root)
	}
	return host, nil
}

// prepareForSteps prepares this process for steps of its own user in its own root directory: it reads what their files cover, and closes its
// environment and memory, which have credentials, to them.
func (a *App) prepareForSteps() error {
	if err := a.Registry().ReadHostFiles(); err != nil {
		return err
	}
	_, _ = x509.SystemCertPool() // it is kept
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("isolation fakeroot: PR_SET_DUMPABLE: %w", err)
	}
	return nil
}

func (a *App) storeDir() (string, error) {
	if a.root != "" {
		return a.root, nil
	}
	return store.DefaultRoot(userns.IsNamedRoot())
}

// PrintNotes prints what this host could not represent of the files of images.
func (a *App) PrintNotes() {
	for _, note := range a.Layers.Notes() {
		fmt.Fprintln(a.Stderr, "NOTE: "+note)
	}
}
