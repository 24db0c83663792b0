package control

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/pkg/filters"
	controlapi "github.com/moby/buildkit/api/services/control"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/micabuild/mica/internal/dockerbuild"
	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/recorder"
	"github.com/micabuild/mica/internal/solver"
)

// historyEvery is how often a client that listens learns of changes.
const historyEvery = time.Second

// ListenBuildHistory sends the builds of the store, those of the command line too, and then what changes, until the client has seen
// enough.
func (c *Controller) ListenBuildHistory(req *controlapi.BuildHistoryRequest, stream controlapi.Control_ListenBuildHistoryServer) error {
	if err := sendTime(stream); err != nil {
		return err
	}
	keep, err := historyFilter(req)
	if err != nil {
		return err
	}
	tick := time.NewTicker(historyEvery)
	defer tick.Stop()
	sent := map[string]history.Status{}
	for {
		list, err := c.builds(req, keep)
		if err != nil {
			return err
		}
		if err := c.sendBuilds(stream, sent, list, !req.EarlyExit && req.Ref == "" && req.Limit == 0); err != nil || req.EarlyExit {
			return err
		}
		select {
		case <-tick.C:
		case <-stream.Context().Done():
			return context.Cause(stream.Context())
		}
	}
}

// builds returns the builds of a request, newest first. Records that cannot be read are left out.
func (c *Controller) builds(req *controlapi.BuildHistoryRequest, keep func(*history.Build) bool) ([]*history.Build, error) {
	builds := history.Open(c.o.Store)
	if req.Ref != "" {
		b, err := builds.Find(req.Ref)
		if err != nil || !keep(b) {
			return nil, nil //nolint:nilerr // BuildKit sends nothing for a build that it does not know
		}
		return []*history.Build{b}, nil
	}
	all, err := builds.List()
	var damaged *history.DamagedError
	if err != nil && !errors.As(err, &damaged) {
		return nil, err
	}
	all = slices.DeleteFunc(slices.Clone(all), func(b *history.Build) bool { return b == nil || !keep(b) })
	slices.SortStableFunc(all, func(a, b *history.Build) int { return b.Started.Compare(a.Started) })
	if n := int(req.Limit); n > 0 && n < len(all) {
		all = all[:n]
	}
	return all, nil
}

// sendBuilds sends the builds that are new or have ended, and with removed those that are gone.
func (c *Controller) sendBuilds(stream controlapi.Control_ListenBuildHistoryServer, sent map[string]history.Status, list []*history.Build, removed bool) error {
	there := map[string]bool{}
	for _, b := range list {
		there[b.Ref] = true
		if was, ok := sent[b.Ref]; ok && was == b.Status {
			continue
		}
		sent[b.Ref] = b.Status
		kind := controlapi.BuildHistoryEventType_COMPLETE
		if b.Status == history.Running {
			kind = controlapi.BuildHistoryEventType_STARTED
		}
		if err := stream.Send(&controlapi.BuildHistoryEvent{Type: kind, Record: c.historyRecord(b)}); err != nil {
			return err
		}
	}
	for ref := range sent {
		if there[ref] || !removed {
			continue
		}
		delete(sent, ref)
		e := &controlapi.BuildHistoryEvent{Type: controlapi.BuildHistoryEventType_DELETED, Record: &controlapi.BuildHistoryRecord{Ref: ref}}
		if err := stream.Send(e); err != nil {
			return err
		}
	}
	return nil
}

// historyFilter reads filters in the form of containerd: any of the texts, each of fields with commas between them.
func historyFilter(req *controlapi.BuildHistoryRequest) (func(*history.Build) bool, error) {
	f, err := filters.ParseAll(req.Filter...)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "invalid filter: %v", err)
	}
	return func(b *history.Build) bool {
		if req.ActiveOnly && b.Status != history.Running {
			return false
		}
		return len(req.Filter) == 0 || f.Match(filters.AdapterFunc(func(field []string) (string, bool) {
			switch strings.Join(field, ".") {
			case "ref":
				return b.Ref, true
			case "status":
				return strings.ToLower(string(b.Status)), true
			case "repository":
				return b.Context, b.Context != ""
			}
			return "", false
		}))
	}, nil
}

// historyRecord is a build in BuildKit's form.
func (c *Controller) historyRecord(b *history.Build) *controlapi.BuildHistoryRecord {
	r := &controlapi.BuildHistoryRecord{
		Ref: b.Ref, CreatedAt: timestamppb.New(b.Started), ExporterResponse: map[string]string{}, Result: &controlapi.BuildResultInfo{},
	}
	r.Frontend, r.FrontendAttrs = dockerbuild.Request(b)
	if !b.Completed.IsZero() {
		r.CompletedAt = timestamppb.New(b.Completed)
		r.Trace = c.parts.add(b, dockerbuild.Trace)
		c.addProvenance(r, b)
	}
	if b.Status == history.Interrupted && b.Completed.IsZero() {
		r.CompletedAt = timestamppb.New(lastSeen(b)) // without it, clients show a build that runs
	}
	c.addError(r, b)
	c.addExports(r, b)
	for _, s := range b.Steps {
		r.NumTotalSteps++
		if s.State != "" {
			r.NumCompletedSteps++
		}
		if s.State == history.StepCached {
			r.NumCachedSteps++
		}
	}
	return r
}

// addProvenance adds the provenance of a build: that of each platform, or what its record knows.
func (c *Controller) addProvenance(r *controlapi.BuildHistoryRecord, b *history.Build) {
	builds := history.Open(c.o.Store)
	all, err := builds.Provenance(b)
	if err != nil || len(all) == 0 {
		if d := c.parts.add(b, dockerbuild.Provenance); d != nil {
			r.Result.Attestations = []*controlapi.Descriptor{d}
		}
		return
	}
	for platform := range all {
		d := c.parts.add(b, func(b *history.Build) (*dockerbuild.Part, error) {
			all, err := builds.Provenance(b)
			if err != nil {
				return nil, err
			}
			return dockerbuild.Attestation(all[platform]), nil
		})
		if platform == "" {
			r.Result.Attestations = []*controlapi.Descriptor{d}
			continue
		}
		if r.Results == nil {
			r.Results = map[string]*controlapi.BuildResultInfo{}
		}
		r.Results[platform] = &controlapi.BuildResultInfo{Attestations: []*controlapi.Descriptor{d}}
	}
}

// lastSeen is the latest time that the record of a build has: nobody recorded when its process was killed.
func lastSeen(b *history.Build) time.Time {
	last := b.Started
	for _, s := range b.Steps {
		for _, t := range []time.Time{s.Started, s.Completed} {
			if t.After(last) {
				last = t
			}
		}
	}
	return last
}

// addError adds the error of a build that has not succeeded.
func (c *Controller) addError(r *controlapi.BuildHistoryRecord, b *history.Build) {
	code, message := codes.Unknown, cmp.Or(b.Error, "the build was interrupted")
	switch b.Status {
	case history.Running, history.Completed:
		return
	case history.Canceled:
		code, message = codes.Canceled, cmp.Or(b.Error, "context canceled")
	}
	var details rpcstatus.Status
	if len(b.Failure) > 0 && proto.Unmarshal(b.Failure, &details) == nil {
		code, message = codes.Code(details.Code), details.Message
		r.ExternalError = c.parts.add(b, dockerbuild.Failure)
	}
	r.Error = status.New(code, message).Proto()
}

// addExports adds the exporters of a build and what they made: of a build of the command line, the image.
func (c *Controller) addExports(r *controlapi.BuildHistoryRecord, b *history.Build) {
	for _, e := range dockerbuild.Exporters(b) {
		r.Exporters = append(r.Exporters, &controlapi.Exporter{Type: e.Type, Attrs: e.Attrs})
	}
	if len(b.Names) > 0 {
		r.ExporterResponse["image.name"] = strings.Join(b.Names, ",")
	}
	if b.Image != "" {
		r.ExporterResponse["containerimage.digest"] = b.Image.String()
	}
	for _, made := range b.Results {
		if _, err := c.o.Store.StatBlob(made.Digest); err != nil {
			continue // it was removed: clients read what the record refers to
		}
		c.parts.shown.add(ocispec.Descriptor{MediaType: made.MediaType, Digest: made.Digest})
		d := &controlapi.Descriptor{MediaType: made.MediaType, Digest: made.Digest.String(), Size: made.Size}
		if r.Result.Results == nil {
			r.Result.Results, r.Result.ResultDeprecated = map[int64]*controlapi.Descriptor{}, d
		}
		r.Result.Results[int64(made.Exporter)] = d
	}
}

// UpdateBuildHistory removes a build from the history. Builds cannot be pinned.
func (c *Controller) UpdateBuildHistory(_ context.Context, req *controlapi.UpdateBuildHistoryRequest) (*controlapi.UpdateBuildHistoryResponse, error) {
	switch {
	case req.Delete:
		if _, errs := history.Open(c.o.Store).Remove(req.Ref); len(errs) > 0 {
			return nil, errors.Join(errs...)
		}
	case req.Pinned:
		return nil, status.Error(codes.Unimplemented, "builds cannot be pinned")
	}
	return &controlapi.UpdateBuildHistoryResponse{}, nil
}

// replay sends the progress of a build that another server or command has run, or that has ended long ago, as the history has it. A client may
// ask before its build begins: a build that the history has by then may be one that has begun meanwhile, of which it knows only a part.
func (c *Controller) replay(ref string, stream controlapi.Control_StatusServer) error {
	builds := history.Open(c.o.Store)
	b, err := builds.Find(ref)
	if err != nil || b.Ref != ref || c.jobs.has(ref) {
		return status.Errorf(codes.NotFound, "no such job %s", ref)
	}
	var sendErr error
	err = recorder.Replay(builds, b, func(st *solver.Status) {
		if sendErr == nil {
			sendErr = sendStatus(stream, st)
		}
	})
	return errors.Join(err, sendErr)
}
