package control

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth"
	"github.com/moby/buildkit/session/exporter"
	"github.com/moby/buildkit/session/filesync"
	"github.com/moby/buildkit/session/secrets"
	"github.com/moby/buildkit/session/sshforward"
	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/store"
)

const (
	// sessionTime is how long a build waits for its client's session.
	sessionTime = 10 * time.Second
	// answerTime is how long the client has to answer a question: a user may have to log in.
	answerTime = 5 * time.Minute
)

// answering is the context of a question to the client.
func answering(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, answerTime, errors.New("the client does not answer"))
}

// sessionClient is the client of a build, by its session. What the client sends is kept nowhere but in the build.
type sessionClient struct {
	sessions *session.Manager
	store    *store.Store
	id       string // of the session; "" for none
	ctx      context.Context

	mu      sync.Mutex
	release []func() error // of what the build has synced
}

var _ builder.Client = (*sessionClient)(nil)

// caller waits for the session.
func (c *sessionClient) caller(ctx context.Context) (session.Caller, error) {
	if c.id == "" {
		return nil, errors.New("the client has no session: it has neither files nor secrets to give")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, sessionTime, errors.New("the client has not opened it"))
	defer cancel()
	return c.sessions.Get(ctx, c.id, false)
}

// close removes what was synced for this build alone, and lets others use the rest.
func (c *sessionClient) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, f := range c.release {
		errs = append(errs, f())
	}
	c.release = nil
	return errors.Join(errs...)
}

func (c *sessionClient) atEnd(f func() error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.release = append(c.release, f)
}

// secret returns a secret of the client, or fs.ErrNotExist.
func (c *sessionClient) secret(ctx context.Context, id string) ([]byte, error) {
	if c.id == "" {
		return nil, fs.ErrNotExist
	}
	caller, err := c.caller(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := answering(ctx)
	defer cancel()
	data, err := secrets.GetSecret(ctx, caller, id)
	if errors.Is(err, secrets.ErrNotFound) {
		return nil, fs.ErrNotExist
	}
	return data, err
}

// agent returns an SSH agent of the client, nil for none.
func (c *sessionClient) agent(ctx context.Context, id string) func(net.Conn) {
	caller, err := c.caller(ctx)
	if err != nil || checkAgent(ctx, caller, id) != nil {
		return nil
	}
	return func(conn net.Conn) {
		defer func() { _ = conn.Close() }()
		ctx, cancel := context.WithCancel(c.ctx)
		defer cancel()
		ctx = metadata.AppendToOutgoingContext(caller.Context(ctx), sshforward.KeySSHID, id)
		stream, err := sshforward.NewSSHClient(caller.Conn()).ForwardAgent(ctx)
		if err != nil {
			return
		}
		_ = sshforward.Copy(ctx, conn, stream, stream.CloseSend) // a step's connection has ended
	}
}

// checkAgent asks the client whether it has an agent.
func checkAgent(ctx context.Context, caller session.Caller, id string) error {
	ctx, cancel := answering(ctx)
	defer cancel()
	return sshforward.CheckSSHID(ctx, caller, id)
}

// credential asks the client for the credentials for a registry.
func (c *sessionClient) credential(ctx context.Context, host string) (user, secret string, err error) {
	if c.id == "" {
		return "", "", nil
	}
	caller, err := c.caller(ctx)
	if err != nil {
		return "", "", err
	}
	ctx, cancel := answering(ctx)
	defer cancel()
	resp, err := auth.NewAuthClient(caller.Conn()).Credentials(caller.Context(ctx), &auth.CredentialsRequest{Host: host})
	if grpcerrors.Code(err) == codes.Unimplemented {
		return "", "", nil
	}
	if err != nil {
		return "", "", err
	}
	return resp.Username, resp.Secret, nil
}

// File opens the file of an output at the client, which learns before what the image is.
func (c *sessionClient) File(ctx context.Context, output string, made *builder.Exported) (builder.Sink, error) {
	n, caller, err := c.output(ctx, output)
	if err != nil {
		return nil, err
	}
	meta := map[string]string{}
	if made.Image != nil {
		if err := describeImage(meta, made); err != nil {
			return nil, err
		}
	}
	// A stream whose context ends before it is closed is one that fails for the client.
	ctx, cancel := context.WithCancel(ctx)
	w, err := filesync.CopyFileWriter(ctx, meta, n, caller)
	if err != nil {
		cancel()
		return nil, exists(err)
	}
	return &stream{w: w, cancel: cancel}, nil
}

// exists is builder.ErrExists if a client has said that it does not want a file.
func exists(err error) error {
	if grpcerrors.Code(err) == codes.AlreadyExists {
		return builder.ErrExists
	}
	return err
}

// output is the number of an output, and the session.
func (c *sessionClient) output(ctx context.Context, output string) (int, session.Caller, error) {
	n, err := strconv.Atoi(strings.TrimPrefix(output, outputPrefix))
	if err != nil {
		return 0, nil, err
	}
	caller, err := c.caller(ctx)
	return n, caller, err
}

// stream is the file of an output at the client.
type stream struct {
	w      io.WriteCloser
	cancel context.CancelFunc
}

func (s *stream) Write(data []byte) (int, error) {
	n, err := s.w.Write(data)
	return n, exists(err)
}

// Commit waits until the client has written the file.
func (s *stream) Commit() error { return exists(s.w.Close()) }

// Close without Commit ends the stream with an error for the client.
func (s *stream) Close() error {
	s.cancel()
	return nil
}

// finish tells the client that the exports are done, if it wants to know.
func (c *sessionClient) finish(ctx context.Context, response map[string]string) error {
	caller, err := c.caller(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := answering(ctx)
	defer cancel()
	_, err = exporter.NewExporterClient(caller.Conn()).FinalizeExport(caller.Context(ctx), &exporter.FinalizeExportRequest{ExporterResponse: response})
	if code := grpcerrors.Code(err); code == codes.Unavailable || code == codes.Unimplemented {
		return nil
	}
	return err
}
