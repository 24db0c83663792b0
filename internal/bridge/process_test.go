package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// stage is a client whose containers only record what is asked of them.
type stage struct {
	client.Client

	mu  sync.Mutex
	log []string
	// block makes processes run until their context ends.
	block bool
}

func (s *stage) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, fmt.Sprintf(format, args...))
}

func (s *stage) notes() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.log, ", ")
}

func (s *stage) NewContainer(context.Context, client.NewContainerRequest) (client.Container, error) {
	return &actor{stage: s}, nil
}

type actor struct {
	client.Container
	stage *stage
}

func (a *actor) Release(context.Context) error {
	a.stage.note("release")
	return nil
}

// Start starts a process that copies its input to its output, or fails as its first argument says.
func (a *actor) Start(ctx context.Context, req client.StartRequest) (client.ContainerProcess, error) {
	a.stage.note("start %s", req.Args[0])
	if req.Args[0] == "missing" {
		return nil, &gwpb.ExitError{ExitCode: 127, Err: errors.New("not found")}
	}
	p := &act{stage: a.stage, ended: make(chan error, 1)}
	go func() {
		if a.stage.block {
			<-ctx.Done()
			p.ended <- context.Cause(ctx)
			return
		}
		_, err := io.Copy(req.Stdout, req.Stdin)
		if req.Args[0] == "fail" {
			err = &gwpb.ExitError{ExitCode: 3, Err: errors.New("exit code: 3")}
		}
		p.ended <- err
	}()
	return p, nil
}

type act struct {
	stage *stage
	ended chan error
}

func (p *act) Wait() error { return <-p.ended }

func (p *act) Resize(_ context.Context, s client.WinSize) error {
	p.stage.note("resize %d %d", s.Rows, s.Cols)
	return nil
}

func (p *act) Signal(_ context.Context, sig syscall.Signal) error {
	p.stage.note("signal %d", sig)
	return nil
}

// talk is the stream of a client.
type talk struct {
	grpc.ServerStream
	ctx  context.Context
	in   chan *gwpb.ExecMessage
	mu   sync.Mutex
	sent []string
	done chan bool // gets a value for each process that has ended
}

func (s *talk) Context() context.Context { return s.ctx }

func (s *talk) Recv() (*gwpb.ExecMessage, error) {
	select {
	case m, more := <-s.in:
		if !more {
			return nil, io.EOF
		}
		return m, nil
	case <-s.ctx.Done():
		return nil, context.Cause(s.ctx)
	}
}

func (s *talk) Send(m *gwpb.ExecMessage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := m.ProcessID + " "
	switch in := m.Input.(type) {
	case *gwpb.ExecMessage_Started:
		text += "started"
	case *gwpb.ExecMessage_File:
		text += fmt.Sprintf("%d:%s%t", in.File.Fd, in.File.Data, in.File.EOF)
	case *gwpb.ExecMessage_Exit:
		text += fmt.Sprintf("exit %d %s", in.Exit.Code, in.Exit.Error.GetMessage())
	case *gwpb.ExecMessage_Done:
		text += "done"
		s.done <- true
	}
	s.sent = append(s.sent, text)
	return nil
}

func message(id string, in any) *gwpb.ExecMessage {
	m := &gwpb.ExecMessage{ProcessID: id}
	switch in := in.(type) {
	case *gwpb.InitMessage:
		m.Input = &gwpb.ExecMessage_Init{Init: in}
	case *gwpb.FdMessage:
		m.Input = &gwpb.ExecMessage_File{File: in}
	case *gwpb.ResizeMessage:
		m.Input = &gwpb.ExecMessage_Resize{Resize: in}
	case *gwpb.SignalMessage:
		m.Input = &gwpb.ExecMessage_Signal{Signal: in}
	}
	return m
}

func start(arg string, fds ...uint32) *gwpb.InitMessage {
	return &gwpb.InitMessage{ContainerID: "c", Meta: &pb.Meta{Args: []string{arg}}, Fds: fds}
}

// newTalk returns a bridge with a container, and a stream to it.
func newTalk(t *testing.T, s *stage) (*Bridge, *talk) {
	t.Helper()
	b := New(s, nil, new(Kept))
	if _, err := b.NewContainer(t.Context(), &gwpb.NewContainerRequest{ContainerID: "c"}); err != nil {
		t.Fatal(err)
	}
	return b, &talk{ctx: t.Context(), in: make(chan *gwpb.ExecMessage, 100), done: make(chan bool, 100)}
}

// Each process gets its own messages, and its client the start, the output and the end, in this order.
func TestExecProcess(t *testing.T) {
	t.Parallel()
	s := &stage{}
	b, stream := newTalk(t, s)
	for _, m := range []*gwpb.ExecMessage{
		message("1", start("copy", 0, 1, 2)), message("1", &gwpb.FdMessage{Data: []byte("in")}), message("1", &gwpb.ResizeMessage{Rows: 7, Cols: 77}),
		message("1", &gwpb.SignalMessage{Name: "TERM"}), message("1", &gwpb.FdMessage{EOF: true}),
	} {
		stream.in <- m
	}
	ended := make(chan error, 1)
	go func() { ended <- b.ExecProcess(stream) }()
	<-stream.done
	stream.in <- message("1", &gwpb.FdMessage{Data: []byte("late"), EOF: true}) // is ignored
	for _, arg := range []string{"fail", "missing"} {
		stream.in <- message(arg, start(arg, 0, 1))
		stream.in <- message(arg, &gwpb.FdMessage{EOF: true})
		<-stream.done
	}
	close(stream.in)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	want := "1 started|1 1:infalse|1 1:true|1 2:true|1 exit 0 |1 done|" +
		"fail started|fail 1:true|fail exit 3 exit code: 3|fail done|missing started|missing 1:true|missing exit 127 not found|missing done"
	if got := strings.Join(stream.sent, "|"); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	b.Close()
	if got := s.notes(); got != "start copy, resize 7 77, signal 15, start fail, start missing, release" {
		t.Error(got)
	}
}

// A message that makes no sense ends the stream with an error.
func TestExecProcessRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		messages []*gwpb.ExecMessage
		want     codes.Code
	}{
		"no process":     {[]*gwpb.ExecMessage{message("", start("copy"))}, codes.InvalidArgument},
		"not started":    {[]*gwpb.ExecMessage{message("1", &gwpb.FdMessage{})}, codes.NotFound},
		"started twice":  {[]*gwpb.ExecMessage{message("1", start("copy", 0, 1)), message("1", start("copy", 0, 1))}, codes.AlreadyExists},
		"no container":   {[]*gwpb.ExecMessage{message("1", &gwpb.InitMessage{ContainerID: "x", Meta: &pb.Meta{}})}, codes.NotFound},
		"no description": {[]*gwpb.ExecMessage{message("1", &gwpb.InitMessage{ContainerID: "c"})}, codes.InvalidArgument},
		"descriptor":     {[]*gwpb.ExecMessage{message("1", start("copy", 3))}, codes.InvalidArgument},
		"a long ID":      {[]*gwpb.ExecMessage{message(strings.Repeat("i", maxID+1), start("copy"))}, codes.InvalidArgument},
		"no input":       {[]*gwpb.ExecMessage{message("1", start("missing", 1)), message("1", &gwpb.FdMessage{})}, codes.OutOfRange},
		"into output":    {[]*gwpb.ExecMessage{message("1", start("copy", 0, 1)), message("1", &gwpb.FdMessage{Fd: 1})}, codes.OutOfRange},
		"signal":         {[]*gwpb.ExecMessage{message("1", start("copy", 0, 1)), message("1", &gwpb.SignalMessage{Name: "X"})}, codes.InvalidArgument},
	} {
		b, stream := newTalk(t, &stage{})
		for _, m := range c.messages {
			stream.in <- m
		}
		if err := b.ExecProcess(stream); status.Code(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The end of the build ends processes and releases containers, also those of a client that stays.
func TestExecProcessEnds(t *testing.T) {
	t.Parallel()
	s := &stage{block: true}
	b, stream := newTalk(t, s)
	stream.in <- message("1", start("wait", 1))
	ended := make(chan error, 1)
	go func() { ended <- b.ExecProcess(stream) }()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, errEnded) {
		t.Errorf("%v", err)
	}
	if got := s.notes(); !strings.HasSuffix(got, "release") {
		t.Error(got)
	}
	if err := b.ExecProcess(stream); !errors.Is(err, errEnded) {
		t.Errorf("after the end: %v", err)
	}
}

// A process that reads no input does not keep its stream, and the build, from ending.
func TestExecProcessUnread(t *testing.T) {
	t.Parallel()
	big := make([]byte, maxInput)
	for range 1000 { // what ended first was a matter of chance
		b, stream := newTalk(t, &stage{block: true})
		stream.in <- message("1", start("wait", 0))
		for range 3 { // one more than waits in the inbox and before it
			stream.in <- message("1", &gwpb.FdMessage{Data: big})
		}
		ended := make(chan error, 1)
		go func() { ended <- b.ExecProcess(stream) }()
		for len(stream.in) > 0 {
			runtime.Gosched()
		}
		b.Close()
		if err := <-ended; !errors.Is(err, errEnded) {
			t.Fatal(err)
		}
	}
}

// The limit on processes is one of the front end, whatever streams it opens.
func TestProcessLimit(t *testing.T) {
	t.Parallel()
	b, _ := newTalk(t, &stage{})
	for range maxProcesses {
		if err := b.enterProcess(); err != nil {
			t.Fatal(err)
		}
	}
	stream := &talk{ctx: t.Context(), in: make(chan *gwpb.ExecMessage, 1), done: make(chan bool, 1)}
	stream.in <- message("1", start("copy", 1))
	close(stream.in)
	if err := b.ExecProcess(stream); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(stream.sent, "|"); !strings.Contains(got, "the front end runs 128 processes") {
		t.Error(got)
	}
}

// What a front end starts counts, as other calls do.
func TestProcessBytes(t *testing.T) {
	t.Parallel()
	b, stream := newTalk(t, &stage{})
	b.kept.bytes = maxKept - callSize - 1000
	init := start("copy", 1)
	init.Meta.Env = []string{strings.Repeat("e", 1000)}
	stream.in <- message("1", init)
	if err := b.ExecProcess(stream); status.Code(err) != codes.ResourceExhausted {
		t.Error(err)
	}
	if _, err := b.NewContainer(t.Context(), &gwpb.NewContainerRequest{ContainerID: "d", Hostname: strings.Repeat("h", 1000)}); status.Code(err) != codes.ResourceExhausted {
		t.Error(err)
	}
}

func TestContainerLimits(t *testing.T) {
	t.Parallel()
	b, _ := newTalk(t, &stage{})
	for name, c := range map[string]struct {
		req  *gwpb.NewContainerRequest
		want codes.Code
	}{
		"the same ID": {&gwpb.NewContainerRequest{ContainerID: "c"}, codes.AlreadyExists},
		"no ID":       {&gwpb.NewContainerRequest{}, codes.InvalidArgument},
		"a long ID":   {&gwpb.NewContainerRequest{ContainerID: strings.Repeat("i", maxID+1)}, codes.InvalidArgument},
		"no mount":    {&gwpb.NewContainerRequest{ContainerID: "d", Mounts: []*pb.Mount{nil}}, codes.InvalidArgument},
		"no result":   {&gwpb.NewContainerRequest{ContainerID: "d", Mounts: []*pb.Mount{{ResultID: "x"}}}, codes.NotFound},
		"no address":  {&gwpb.NewContainerRequest{ContainerID: "d", ExtraHosts: []*pb.HostIP{nil}}, codes.InvalidArgument},
	} {
		if _, err := b.NewContainer(t.Context(), c.req); status.Code(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range maxContainers {
		_, err := b.NewContainer(t.Context(), &gwpb.NewContainerRequest{ContainerID: fmt.Sprint(i)})
		if want := i == maxContainers-1; want != (status.Code(err) == codes.ResourceExhausted) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if _, err := b.ReleaseContainer(t.Context(), &gwpb.ReleaseContainerRequest{ContainerID: "0"}); err != nil {
		t.Error(err)
	}
	if _, err := b.ReleaseContainer(t.Context(), &gwpb.ReleaseContainerRequest{ContainerID: "0"}); status.Code(err) != codes.NotFound {
		t.Errorf("released twice: %v", err)
	}
	if _, err := b.NewContainer(t.Context(), &gwpb.NewContainerRequest{ContainerID: "0"}); err != nil {
		t.Errorf("after a release: %v", err)
	}
}

// Much input waits until it is read, and is dropped when nobody will read it.
func TestInbox(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	b := newInbox(ctx)
	b.put(make([]byte, maxInput))
	more := make(chan bool)
	go func() {
		b.put([]byte("more"))
		b.end()
		close(more)
	}()
	if n, err := io.Copy(io.Discard, b); n != maxInput+4 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	<-more
	full := newInbox(ctx)
	full.put(make([]byte, maxInput))
	cancel()
	full.put([]byte("dropped"))
	if full.data != nil {
		t.Error("an inbox that is closed keeps its data")
	}
	if n, err := full.Read(make([]byte, 1)); n != 0 || err != io.EOF { //nolint:errorlint // readers compare
		t.Errorf("%d, %v", n, err)
	}
}
