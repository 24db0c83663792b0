package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/terminal"
	"github.com/micabuild/mica/internal/transfer"
	"github.com/micabuild/mica/internal/userns"
)

// App is what every command works with: the streams, the global flags, and the store, once it is opened.
type App struct {
	Stdin          io.Reader
	Stdout, Stderr *terminal.Writer

	root  string   // --root
	args  []string // os.Args, to start again with
	umask os.FileMode

	Store  *store.Store
	Layers *layer.Layers
	Images *image.Images

	docker *configfile.ConfigFile
	client *registry.Client
}

// dockerConfig is docker's configuration file: credentials, proxies.
func (a *App) dockerConfig() *configfile.ConfigFile {
	if a.docker == nil {
		a.docker = config.LoadDefaultConfigFile(a.Stderr)
	}
	return a.docker
}

// registry is what talks to registries.
func (a *App) registry() *registry.Client {
	if a.client == nil {
		a.client = registry.New(registry.Options{Docker: a.dockerConfig(), UserAgent: "mica/" + version()})
	}
	return a.client
}

// local is the opened store, as the registry client takes it.
func (a *App) local() *transfer.Local {
	return &transfer.Local{Store: a.Store, Layers: a.Layers, Images: a.Images}
}

// Open opens the store. An ordinary user becomes root in a user namespace first, in which the files of images can belong
// to whom they belong to: Open then does not return, but to a process started anew.
func (a *App) Open(context.Context) error {
	if a.Store != nil {
		return nil
	}
	if err := userns.Enter(a.args); err != nil {
		return err
	}
	// What the user's umask says is for the user's files, not for those of images.
	a.umask = os.FileMode(syscall.Umask(0o022))
	dir, err := a.storeDir()
	if err != nil {
		return err
	}
	s, err := store.Open(dir)
	if err != nil {
		return err
	}
	a.Store = s
	a.Layers = layer.New(s)
	a.Layers.SetFetch(func(ctx context.Context, repository string, desc ocispec.Descriptor) (io.ReadCloser, error) {
		return a.registry().OpenBlob(ctx, repository, desc)
	})
	a.Images = image.New(s, a.Layers)
	return nil
}

func (a *App) storeDir() (string, error) {
	if a.root != "" {
		return a.root, nil
	}
	return store.DefaultRoot(userns.IsRealRoot())
}

// printNotes says what this host could not represent of the files of images.
func (a *App) printNotes() {
	for _, note := range a.Layers.Notes() {
		fmt.Fprintln(a.Stderr, "NOTE: "+note)
	}
}
