package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/moby/sys/signal"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/micabuild/mica/internal/crash"
)

// Limits on processes; those of one stream, if not of its front end.
const (
	maxProcesses = 128   // of a front end, at once
	maxStarted   = 10000 // from its beginning
	maxID        = 256   // bytes of the ID of a process or a container
	// lastWait is how long a stream that ends waits for the last messages of processes to a client that may not read them.
	lastWait = time.Second
)

// execStream is the stream of the processes of a front end.
type execStream struct {
	b      *Bridge
	ctx    context.Context // ends with the stream, and its processes with it
	cancel context.CancelCauseFunc

	sending sync.Mutex
	stream  gwpb.LLBBridge_ExecProcessServer

	processes map[string]*execProcess  // also those that have ended: the client may not know it yet
	last      map[string]chan struct{} // closed when the last process of a container has been started, by the container's ID
	running   sync.WaitGroup
}

// execProcess is a process as its client sees it.
type execProcess struct {
	id    string
	stdin *inbox          // nil for none
	after <-chan struct{} // closed when the process before it in the container has been started; nil for the first
	ready chan struct{}
	// process is set when ready is closed; nil for one that could not be started.
	process client.ContainerProcess
}

// ExecProcess runs processes in containers: it gets their beginnings, input, signals and sizes of terminals, and sends output and ends.
func (b *Bridge) ExecProcess(stream gwpb.LLBBridge_ExecProcessServer) error {
	ctx, done, err := b.call(stream.Context())
	if err != nil {
		return err
	}
	defer done()
	s := &execStream{b: b, stream: stream, processes: map[string]*execProcess{}, last: map[string]chan struct{}{}}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	err = s.receive()
	s.cancel(errEnded)
	for _, p := range s.processes {
		p.stdin.close()
	}
	select {
	case <-s.ended():
	case <-time.After(lastWait):
	}
	return err
}

// ended returns what is closed when the processes that have begun have ended.
func (s *execStream) ended() <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		s.running.Wait()
		close(ended)
	}()
	return ended
}

// receive handles messages until the client sends no more and its processes have ended.
func (s *execStream) receive() error {
	messages, last := make(chan *gwpb.ExecMessage), make(chan error, 1)
	go func() {
		defer close(messages)
		for {
			m, err := s.stream.Recv()
			if err != nil {
				last <- err
				return
			}
			select {
			case messages <- m:
			case <-s.ctx.Done():
				last <- context.Cause(s.ctx)
				return
			}
		}
	}()
	for {
		select {
		case m, more := <-messages:
			if !more {
				return s.endOfMessages(<-last)
			}
			if err := s.handle(m); err != nil {
				return err
			}
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
	}
}

// endOfMessages waits for the processes if the client has only closed its side.
func (s *execStream) endOfMessages(err error) error {
	if !errors.Is(err, io.EOF) {
		return err
	}
	select {
	case <-s.ended():
		return nil
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
}

func (s *execStream) handle(m *gwpb.ExecMessage) error {
	switch {
	case m.ProcessID == "":
		return status.Error(codes.InvalidArgument, "ProcessID required")
	case len(m.ProcessID) > maxID:
		return status.Errorf(codes.InvalidArgument, "the ID of a process has more than %d bytes", maxID)
	}
	p := s.processes[m.ProcessID]
	if init := m.GetInit(); init != nil {
		if p != nil {
			return status.Errorf(codes.AlreadyExists, "Process %s already exists", m.ProcessID)
		}
		return s.begin(m.ProcessID, init)
	}
	if p == nil {
		return status.Errorf(codes.NotFound, "IO for process %q not found", m.ProcessID)
	}
	switch in := m.Input.(type) {
	case *gwpb.ExecMessage_File:
		return p.write(in.File)
	case *gwpb.ExecMessage_Resize:
		p.when(s.ctx, func(c client.ContainerProcess) {
			_ = c.Resize(s.ctx, client.WinSize{Rows: in.Resize.GetRows(), Cols: in.Resize.GetCols()})
		})
	case *gwpb.ExecMessage_Signal:
		sig, ok := signal.SignalMap[in.Signal.GetName()]
		if !ok {
			return status.Errorf(codes.InvalidArgument, "Unknown signal %s", in.Signal.GetName())
		}
		p.when(s.ctx, func(c client.ContainerProcess) { _ = c.Signal(s.ctx, sig) })
	}
	return nil
}

// write gives the process input. What comes after its end is ignored.
func (p *execProcess) write(f *gwpb.FdMessage) error {
	if f.GetFd() != 0 || p.stdin == nil {
		return status.Errorf(codes.OutOfRange, "fd %d unavailable to write", f.GetFd())
	}
	p.stdin.put(f.Data)
	if f.EOF {
		p.stdin.end()
	}
	return nil
}

// when calls do with the process when it has been started.
func (p *execProcess) when(ctx context.Context, do func(client.ContainerProcess)) {
	select {
	case <-p.ready:
		if p.process != nil {
			do(p.process)
		}
	case <-ctx.Done():
	}
}

// begin starts a process.
func (s *execStream) begin(id string, init *gwpb.InitMessage) error {
	if len(s.processes) >= maxStarted {
		return status.Errorf(codes.ResourceExhausted, "the front end has started %d processes", maxStarted)
	}
	meta := init.GetMeta()
	if meta == nil {
		return status.Errorf(codes.InvalidArgument, "process %s has no description", id)
	}
	c, err := s.b.container(init.ContainerID)
	if err != nil {
		return err
	}
	p := &execProcess{id: id, ready: make(chan struct{}), after: s.last[init.ContainerID]}
	req := client.StartRequest{
		Args: meta.Args, Env: meta.Env, SecretEnv: init.Secretenv, User: meta.User, Cwd: meta.Cwd, Tty: init.Tty, SecurityMode: init.Security,
		RemoveMountStubsRecursive: meta.RemoveMountStubsRecursive,
	}
	var outputs []uint32
	for _, fd := range init.Fds {
		switch fd {
		case 0:
			p.stdin = newInbox(s.ctx)
			req.Stdin = p.stdin
		case 1:
			req.Stdout = &fdWriter{s, id, fd}
			outputs = append(outputs, fd)
		case 2:
			req.Stderr = &fdWriter{s, id, fd}
			outputs = append(outputs, fd)
		default:
			return status.Errorf(codes.InvalidArgument, "fd %d of process %s is not supported", fd, id)
		}
	}
	size := init.SizeVT()
	if err := s.b.keepBytes(size); err != nil {
		return err
	}
	s.processes[id], s.last[init.ContainerID] = p, p.ready
	s.running.Go(func() {
		defer s.b.dropBytes(size)
		if err := s.run(p, c, req, outputs); err != nil {
			s.cancel(err)
		}
	})
	return nil
}

// run runs a process to its end. Its error is that of the stream.
func (s *execStream) run(p *execProcess, c client.Container, req client.StartRequest, outputs []uint32) (err error) {
	defer crash.Recover(&err)
	defer p.stdin.close()
	// Before any output, also if the process cannot be started: that is its end then.
	err = s.send(p.id, &gwpb.ExecMessage{Input: &gwpb.ExecMessage_Started{Started: &gwpb.StartedMessage{}}})
	if err != nil {
		close(p.ready)
		return err
	}
	failure := s.start(p, c, req)
	if failure == nil {
		failure = p.process.Wait()
		s.b.leaveProcess()
	}
	var last []*gwpb.ExecMessage
	for _, fd := range outputs {
		last = append(last, &gwpb.ExecMessage{Input: &gwpb.ExecMessage_File{File: &gwpb.FdMessage{Fd: fd, EOF: true}}})
	}
	last = append(last,
		&gwpb.ExecMessage{Input: &gwpb.ExecMessage_Exit{Exit: exitMessage(s.ctx, failure)}},
		&gwpb.ExecMessage{Input: &gwpb.ExecMessage_Done{Done: &gwpb.DoneMessage{}}})
	for _, m := range last {
		if err := s.send(p.id, m); err != nil {
			return err
		}
	}
	return nil
}

// start starts a process, if there are not too many. The first process of a container is the one whose message came first.
func (s *execStream) start(p *execProcess, c client.Container, req client.StartRequest) (err error) {
	defer close(p.ready)
	if p.after != nil {
		<-p.after
	}
	if err := s.b.enterProcess(); err != nil {
		return err
	}
	if p.process, err = c.Start(s.ctx, req); err != nil {
		p.process = nil
		s.b.leaveProcess()
	}
	return err
}

// enterProcess counts a process that is about to start.
func (b *Bridge) enterProcess() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.processes >= maxProcesses {
		return status.Errorf(codes.ResourceExhausted, "the front end runs %d processes", maxProcesses)
	}
	b.processes++
	return nil
}

func (b *Bridge) leaveProcess() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.processes--
}

// exitMessage is the end of a process: a code, and the error unless it succeeded.
func exitMessage(ctx context.Context, err error) *gwpb.ExitMessage {
	if err == nil {
		return &gwpb.ExitMessage{}
	}
	code := uint32(gwpb.UnknownExitStatus)
	var exit *gwpb.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode
	}
	st, _ := status.FromError(grpcerrors.ToGRPC(ctx, err))
	proto := st.Proto()
	return &gwpb.ExitMessage{Code: code, Error: &spb.Status{Code: proto.Code, Message: proto.Message, Details: proto.Details}}
}

// send sends a message of a process.
func (s *execStream) send(id string, m *gwpb.ExecMessage) error {
	m.ProcessID = id
	s.sending.Lock()
	defer s.sending.Unlock()
	if err := s.ctx.Err(); err != nil {
		return context.Cause(s.ctx)
	}
	if err := s.stream.Send(m); err != nil {
		return fmt.Errorf("send message of process: %w", err)
	}
	return nil
}

// fdWriter sends the output of a process.
type fdWriter struct {
	s  *execStream
	id string
	fd uint32
}

func (w *fdWriter) Write(data []byte) (int, error) {
	m := &gwpb.ExecMessage{Input: &gwpb.ExecMessage_File{File: &gwpb.FdMessage{Fd: w.fd, Data: data}}}
	if err := w.s.send(w.id, m); err != nil {
		return 0, err
	}
	return len(data), nil
}

// Close does nothing: the end of the process is the end of its output.
func (w *fdWriter) Close() error { return nil }
