package control

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/micabuild/mica/internal/bridge"
	"github.com/micabuild/mica/internal/fairshare"
	"github.com/micabuild/mica/internal/memory"
	"github.com/micabuild/mica/internal/solver"
)

// Limits on builds.
const (
	maxBuilds = 128 // at once, beside those of each client
	ownBuilds = 4
	// maxRequests is how many bytes the requests of all builds may have that run: most is the graph, which is kept until the end.
	maxRequests = 256 << 20
	// freeRequest is what a request may have beside that: large ones do not shut out those of other clients.
	freeRequest = 1 << 20
	// maxEnded is how many builds that have ended can still be watched: a client may ask after the end of a build that was cached.
	maxEnded = 64
	// maxEndedBytes is how much their progress may have; that of the oldest comes from the history then.
	maxEndedBytes = 64 << 20
	// maxRef is the length of a reference, in bytes.
	maxRef = 256
	// maxLog bounds the output of a build that is kept for clients that come late: the bytes of its messages. Small pieces count, too.
	maxLog = 8 << 20
	// jobTime is how long a client that watches waits for the build to begin.
	jobTime = 10 * time.Second
	// idleTime is how long the server keeps the memory of builds that have ended: the next one may come soon.
	idleTime = 2 * time.Second
)

// jobs are the builds that run, and some that have ended, by the references that their clients have made.
type jobs struct {
	mu      sync.Mutex
	all     map[string]*job
	ended   []*job        // oldest first
	kept    int           // bytes of the progress of those
	changed chan struct{} // closed when a build begins
	running int
	builds  *fairshare.Limit
	bytes   int            // of the requests, without what is free
	memory  *bridge.Memory // of the front ends
	idle    *time.Timer    // returns memory to the system when nothing has run for a while
}

func newJobs() *jobs {
	return &jobs{all: map[string]*job{}, changed: make(chan struct{}), memory: &bridge.Memory{}, builds: &fairshare.Limit{Own: ownBuilds, Shared: maxBuilds}}
}

// begin adds a build whose request has a size in bytes. ctx is that of the request.
func (js *jobs) begin(ctx context.Context, ref string, size int) (*job, error) {
	client := clientOf(ctx)
	js.mu.Lock()
	defer js.mu.Unlock()
	switch {
	case ref == "":
		return nil, status.Error(codes.InvalidArgument, "the build has no reference")
	case len(ref) > maxRef:
		return nil, status.Errorf(codes.InvalidArgument, "the reference of the build has more than %d bytes", maxRef)
	case js.all[ref] != nil:
		return nil, status.Errorf(codes.AlreadyExists, "job ID %s exists", ref)
	case js.bytes+counted(size) > maxRequests:
		return nil, status.Errorf(codes.ResourceExhausted, "the requests of the builds that run have %d bytes: try again when one has ended", js.bytes)
	case !js.builds.Take(client):
		return nil, status.Errorf(codes.ResourceExhausted, "%d builds run: try again when one has ended", js.running)
	}
	j := &job{ref: ref, client: client, size: size, kept: js.memory.Build(), changed: make(chan struct{}), bridged: make(chan struct{})}
	j.ctx, j.cancel = context.WithCancelCause(ctx)
	js.all[ref] = j
	js.running++
	js.bytes += counted(size)
	if js.idle != nil {
		js.idle.Stop()
	}
	close(js.changed)
	js.changed = make(chan struct{})
	return j, nil
}

// clientOf is the client of a call.
func clientOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return fairshare.Client(p.Addr.String())
	}
	return ""
}

// counted is the part of a request that counts for all builds.
func counted(size int) int { return max(0, size-freeRequest) }

// end notes the end of a build, and forgets the oldest that have ended.
func (js *jobs) end(j *job) {
	j.add(nil)
	j.cancel(nil)
	j.kept.Close()
	js.mu.Lock()
	defer js.mu.Unlock()
	js.bytes -= counted(j.size)
	js.builds.Return(j.client)
	if js.running--; js.running == 0 {
		js.idle = time.AfterFunc(idleTime, memory.Release)
	}
	js.ended = append(js.ended, j)
	js.kept += j.bytes()
	for len(js.ended) > maxEnded || js.kept > maxEndedBytes {
		oldest := js.ended[0]
		delete(js.all, oldest.ref)
		js.kept -= oldest.bytes()
		js.ended = js.ended[1:]
	}
}

// has reports whether a build has begun.
func (js *jobs) has(ref string) bool {
	js.mu.Lock()
	defer js.mu.Unlock()
	return js.all[ref] != nil
}

// get waits for a build to begin.
func (js *jobs) get(ctx context.Context, ref string) (*job, error) {
	ctx, cancel := context.WithTimeout(ctx, jobTime)
	defer cancel()
	for {
		js.mu.Lock()
		j, changed := js.all[ref], js.changed
		js.mu.Unlock()
		if j != nil {
			return j, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, status.Errorf(codes.NotFound, "no such job %s", ref)
		}
	}
}

// job is the progress of one build.
type job struct {
	ref    string
	client string
	size   int             // of its request
	ctx    context.Context // of the build
	cancel context.CancelCauseFunc
	kept   *bridge.Kept // of its front ends, and of its progress beside output

	mu      sync.Mutex
	events  []*controlapi.StatusResponse // copies: those of the solver refer to all that it has; nil for one that was only output, and is forgotten
	bridge  *bridge.Bridge               // of the client's front end
	bridged chan struct{}                // closed when the bridge is there
	total   int                          // bytes of the events
	logged  int                          // bytes of output in the events
	output  int                          // events before this one have no output
	ended   bool
	changed chan struct{} // closed when there are more events, or the build has ended
}

// add records progress; nil is the end.
func (j *job) add(st *solver.Status) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.ended {
		return
	}
	if st == nil {
		j.ended, j.bridge = true, nil // it has all that the build had
	} else {
		for _, part := range st.Marshal() {
			size, logged := part.SizeVT(), logSize(part)
			if err := j.kept.Grow(size - logged); err != nil {
				j.cancel(err) // the build is about to end
				return
			}
			j.events = append(j.events, part)
			j.logged += logged
			j.total += size
		}
		j.forget()
	}
	close(j.changed)
	j.changed = make(chan struct{})
}

// logSize returns the size of the output in an event, in bytes: that of one letter counts as a message has it.
func logSize(st *controlapi.StatusResponse) (n int) {
	for _, l := range st.Logs {
		n += l.SizeVT()
	}
	return n
}

// bytes returns the size of the progress.
func (j *job) bytes() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.total
}

// forget removes the oldest output beyond the limit. What is not output is always kept while the build runs.
func (j *job) forget() {
	for ; j.output < len(j.events) && j.logged > maxLog; j.output++ {
		all := j.events[j.output]
		n := logSize(all)
		if n == 0 {
			continue
		}
		rest := &controlapi.StatusResponse{Vertexes: all.Vertexes, Statuses: all.Statuses, Warnings: all.Warnings}
		left := rest.SizeVT()
		if left == 0 {
			rest = nil
		}
		j.events[j.output] = rest
		j.logged -= n
		j.total -= all.SizeVT() - left
	}
}

// after returns the events from a number on, and what is closed when there are more; nil after the end.
func (j *job) after(n int) (list []*controlapi.StatusResponse, more <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	list = j.events[min(n, len(j.events)):]
	if !j.ended {
		more = j.changed
	}
	return list, more
}

// reason is the error of a build with the reason why this server has canceled it, if it has.
func (j *job) reason(err error) error {
	if why := context.Cause(j.ctx); err != nil && why != nil && !errors.Is(err, why) && !errors.Is(why, context.Canceled) {
		return why
	}
	return err
}

// front waits for the client that is the front end of its build. The client may name exporters when it knows the result.
func (j *job) front(inputs map[string]*pb.Definition, more *sessionExporters) client.BuildFunc {
	return func(ctx context.Context, c client.Client) (*client.Result, error) {
		b := bridge.New(c, inputs, j.kept)
		defer b.Close()
		j.mu.Lock()
		j.bridge = b
		j.mu.Unlock()
		close(j.bridged)
		res, err := b.Result(ctx)
		if err == nil {
			err = more.find(ctx, res, b.IDs)
		}
		return res, err
	}
}

// findBridge waits for the bridge of a build.
func (c *Controller) findBridge(ctx context.Context, ref string) (*bridge.Bridge, error) {
	j, err := c.jobs.get(ctx, ref)
	if err != nil {
		return nil, err
	}
	for {
		_, more := j.after(0)
		select {
		case <-j.bridged:
			j.mu.Lock()
			defer j.mu.Unlock()
			if j.bridge == nil {
				return nil, status.Errorf(codes.Canceled, "build %s has ended", ref)
			}
			return j.bridge, nil
		default:
		}
		if more == nil {
			return nil, status.Errorf(codes.Canceled, "build %s has ended", ref)
		}
		select {
		case <-j.bridged:
		case <-more:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Status sends the progress of a build, from its beginning, until it ends.
func (c *Controller) Status(req *controlapi.StatusRequest, stream controlapi.Control_StatusServer) error {
	ctx := stream.Context()
	if err := sendTime(stream); err != nil {
		return err
	}
	if !c.jobs.has(req.Ref) {
		if err := c.replay(req.Ref, stream); status.Code(err) != codes.NotFound {
			return err
		}
	}
	j, err := c.jobs.get(ctx, req.Ref)
	if err != nil {
		return err
	}
	for n := 0; ; {
		list, more := j.after(n)
		for _, st := range list {
			if st == nil {
				continue
			}
			if err := stream.Send(st); err != nil {
				return fmt.Errorf("send progress: %w", err)
			}
		}
		n += len(list)
		if more == nil {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func sendStatus(stream controlapi.Control_StatusServer, st *bkclient.SolveStatus) error {
	for _, part := range st.Marshal() {
		if err := stream.Send(part); err != nil {
			return fmt.Errorf("send progress: %w", err)
		}
	}
	return nil
}

// timeKey is the header by which clients correct the times of another clock.
const timeKey = "buildkit-current-timestamp"

func sendTime(stream interface{ SendHeader(md metadata.MD) error }) error {
	return stream.SendHeader(metadata.Pairs(timeKey, time.Now().Format(time.RFC3339Nano)))
}
