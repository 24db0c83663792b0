// Package servecmd has the command that serves BuildKit's and Docker's APIs.
package servecmd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/util/entitlements"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/attest"
	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/control"
	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/engineapi"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/memory"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/serve"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/userns"
	"github.com/micabuild/mica/internal/version"
)

type serveFlags struct {
	addresses     []string
	runtime       string
	group         string
	entitlements  []string
	ca, cert, key string
	idle          time.Duration
	provenanceEnv string
}

// NewServeCommand is `mica serve`.
func NewServeCommand(app *command.App) *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve [OPTIONS] [-- COMMAND [ARG...]]",
		Short: "Serve the APIs of BuildKit and Docker on a socket",
		Long: "Serve the APIs of BuildKit and Docker on a socket, until mica is interrupted. With --idle-timeout it also ends when nobody has used it for that time.\n\n" +
			"DOCKER_HOST and BUILDKIT_HOST may name the same socket. Only you may use it, and the members of --group: they can do what you can do.\n\n" +
			"With a command, the socket is in a private directory, and lasts as long as the command, which finds it in its environment.",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && cmd.ArgsLenAtDash() != 0 {
				return &command.UsageError{Err: fmt.Errorf("unexpected argument %q: a command follows --", args[0])}
			}
			return runServe(cmd.Context(), app, &f, args)
		},
	}
	fl := cmd.Flags()
	fl.StringArrayVar(&f.addresses, "addr", nil, "Address to listen on: unix:///PATH, or tcp://HOST:PORT with TLS (default: $XDG_RUNTIME_DIR/mica/mica.sock, or /run/mica/mica.sock for root)")
	fl.StringVar(&f.runtime, "runtime", "", "OCI runtime that runs the steps (default: $MICA_RUNTIME, else crun, else runc)")
	app.AddIsolation(fl)
	fl.StringVar(&f.group, "group", "", "Group whose members may use unix sockets")
	fl.StringSliceVar(&f.entitlements, "allow-insecure-entitlement", nil, "Entitlements that clients may allow their steps (network.host, security.insecure)")
	fl.StringVar(&f.ca, "tlscacert", "", "Certificate authority of the clients of tcp addresses")
	fl.StringVar(&f.cert, "tlscert", "", "Certificate of tcp addresses")
	fl.StringVar(&f.key, "tlskey", "", "Key of the certificate")
	fl.DurationVar(&f.idle, "idle-timeout", 0, "End when nobody has used the sockets, and nothing has run, for this time (default: never)")
	fl.StringVar(&f.provenanceEnv, "provenance-env-dir", "", "Directory of .json files with what the provenance of builds says of this server")
	return cmd
}

func runServe(ctx context.Context, app *command.App, f *serveFlags, args []string) (err error) {
	if _, err := entitlements.WhiteList(f.granted(), nil); err != nil {
		return &command.UsageError{Err: fmt.Errorf("--allow-insecure-entitlement: %w", err)}
	}
	if f.idle < 0 {
		return &command.UsageError{Err: fmt.Errorf("--idle-timeout: %s is negative", f.idle)}
	}
	access, err := f.access()
	if err != nil {
		return err
	}
	if err := app.OpenForClients(ctx); err != nil {
		return err
	}
	forCommand := ""
	if len(args) > 0 {
		var remove func() error
		if forCommand, remove, err = private(); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, remove()) }()
	}
	listeners, err := f.listen(ctx, app, access, forCommand)
	if err != nil {
		return err
	}
	host, err := app.NewHost(f.runtime)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, host.Close()) }()
	server, end, err := f.newServer(app, host, len(args) > 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	defer tidy(app)()
	if len(args) == 0 {
		return server.Serve(ctx, listeners...)
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx)) // the command ends first
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(serving, listeners...) }()
	err = runCommand(ctx, app, args, forCommand)
	stop()
	return errors.Join(err, <-ended)
}

// tidy removes, beside what is served, what a killed server has left: its containers have changed as much as they could. The function that it
// returns waits for that.
func tidy(app *command.App) (wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = crash.Guard(func() error { app.Tidy(); return nil })() // what it could not remove is tried again at the end
	}()
	return func() { <-done }
}

// environment is what provenance says of this server.
func (f *serveFlags) environment() (map[string]any, error) {
	if f.provenanceEnv == "" {
		return map[string]any{}, nil
	}
	return attest.Environment(f.provenanceEnv)
}

// newServer returns the server of both APIs, whose steps and containers a host runs, and the function that ends the containers. The server of
// a command is there until the command ends.
func (f *serveFlags) newServer(app *command.App, host *sandbox.Host, forCommand bool) (*serve.Server, func() error, error) {
	memory.Stay()
	sessions, err := session.NewManager()
	if err != nil {
		return nil, nil, err
	}
	env, err := f.environment()
	if err != nil {
		return nil, nil, err
	}
	engine := engineapi.New(engineapi.Options{
		Root: app.Store.Root(), Registry: registry.Options{UserAgent: "mica/" + version.String()}, Runtime: f.runtime, Host: host, BuildKit: true,
	})
	rpc := control.NewServer()
	control.New(control.Options{
		Sessions: sessions, Store: app.Store, Entitlements: f.entitlements, Version: version.BuildKit(), Revision: version.Revision(),
		ProvenanceEnv: env, Built: engine.Built,
		NewBuilder: func(c *registry.Client) (*builder.Builder, error) { return newBuilder(app.Store.Root(), host, c) },
	}).Register(rpc)
	o := serve.Options{
		GRPC: rpc, Sessions: sessions, HTTP: engine, IdleTimeout: f.idle, Busy: engine.HasContainers, Rest: func() {
			engine.CollectLeft(context.Background())
			memory.Release()
		},
	}
	if forCommand {
		o.IdleTimeout = 0
	}
	return serve.New(o), engine.Close, nil
}

// newBuilder returns a Builder for one build: what it remembers and holds ends with the build.
func newBuilder(root string, host *sandbox.Host, c *registry.Client) (*builder.Builder, error) {
	s, err := store.Open(root)
	if err != nil {
		return nil, err
	}
	layers := layer.New(s)
	layers.SetFetch(func(ctx context.Context, repository string, desc ocispec.Descriptor) (io.ReadCloser, error) {
		return c.OpenBlob(ctx, repository, desc)
	})
	return &builder.Builder{Store: s, Layers: layers, Images: image.New(s, layers), Host: host, Registry: c}, nil
}

func (f *serveFlags) granted() (list []entitlements.Entitlement) {
	for _, e := range f.entitlements {
		list = append(list, entitlements.Entitlement(e))
	}
	return list
}

// access reads the certificates.
func (f *serveFlags) access() (serve.Access, error) {
	a := serve.Access{Group: f.group}
	given := 0
	for _, name := range []string{f.ca, f.cert, f.key} {
		if name != "" {
			given++
		}
	}
	if given != 0 && given != 3 {
		return a, &command.UsageError{Err: errors.New("--tlscacert, --tlscert and --tlskey need each other: without all three, other hosts could use the socket")}
	}
	var err error
	if given == 3 {
		var conf *tls.Config
		conf, err = serve.LoadTLS(f.ca, f.cert, f.key)
		a.TLS = conf
	}
	return a, err
}

// listen takes the sockets that systemd has opened, opens the others, and says where they are, but for that of a command.
func (f *serveFlags) listen(ctx context.Context, app *command.App, access serve.Access, forCommand string) (list []net.Listener, err error) {
	if list, err = serve.Activated(access); err != nil {
		return nil, err
	}
	for _, l := range list {
		fmt.Fprintf(app.Stdout, "%s://%s\n", l.Addr().Network(), l.Addr())
	}
	addresses := f.addresses
	if forCommand != "" {
		addresses = append([]string{forCommand}, addresses...)
	}
	if len(addresses) == 0 && len(list) == 0 {
		def, err := defaultAddress()
		if err != nil {
			return nil, err
		}
		addresses = []string{def}
	}
	for _, a := range addresses {
		l, err := serve.Listen(ctx, a, access)
		if err != nil {
			for _, open := range list {
				err = errors.Join(err, open.Close())
			}
			return nil, err
		}
		list = append(list, l)
	}
	for i, a := range addresses {
		if a == forCommand {
			continue
		}
		if tcp, ok := list[len(list)-len(addresses)+i].Addr().(*net.TCPAddr); ok {
			a = "tcp://" + tcp.String()
		}
		fmt.Fprintln(app.Stdout, a)
	}
	return list, app.Stdout.Flush()
}

// defaultAddress is the address without --addr.
func defaultAddress() (string, error) {
	if userns.IsRealRoot() {
		return "unix:///run/mica/mica.sock", nil
	}
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if !filepath.IsAbs(dir) {
		return "", &command.UsageError{Err: errors.New("XDG_RUNTIME_DIR is not set: name a socket with --addr unix:///PATH")}
	}
	return "unix://" + filepath.Join(dir, "mica", "mica.sock"), nil
}
