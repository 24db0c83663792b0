package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/pkg/filters"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/micabuild/mica/internal/prune"
	"github.com/micabuild/mica/internal/redact"
)

// shownID is how many digits of a key clients see.
const shownID = 25

// DiskUsage lists the build cache.
func (c *Controller) DiskUsage(ctx context.Context, req *controlapi.DiskUsageRequest) (*controlapi.DiskUsageResponse, error) {
	match, err := usageFilter(req.Filter)
	if err != nil {
		return nil, err
	}
	all, err := c.usage(ctx)
	if err != nil {
		return nil, err
	}
	resp := &controlapi.DiskUsageResponse{}
	for _, r := range all {
		young := req.AgeLimit > 0 && time.Since(r.LastUsedAt.AsTime()) < time.Duration(req.AgeLimit)
		if !young && match(r) {
			resp.Record = append(resp.Record, r)
		}
	}
	return resp, nil
}

// usageFilter reads filters in the form of containerd: any of the texts, each of fields with commas between them. buildx sends an empty one.
func usageFilter(texts []string) (func(*controlapi.UsageRecord) bool, error) {
	if strings.Join(texts, "") == "" {
		return func(*controlapi.UsageRecord) bool { return true }, nil
	}
	f, err := filters.ParseAll(texts...)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "invalid filter: %v", err)
	}
	return func(r *controlapi.UsageRecord) bool {
		return f.Match(filters.AdapterFunc(func(field []string) (string, bool) { return usageField(r, field) }))
	}, nil
}

// usageField is a field of a record for filters, under BuildKit's names. Those that are not values have no value.
func usageField(r *controlapi.UsageRecord, field []string) (string, bool) {
	switch strings.Join(field, ".") {
	case "id":
		return r.ID, true
	case "description":
		return r.Description, true
	case "type":
		return r.RecordType, true
	case "inuse":
		return "", r.InUse
	case "mutable":
		return "", r.Mutable
	case "immutable":
		return "", !r.Mutable
	case "shared":
		return "", r.Shared
	case "private":
		return "", !r.Shared
	}
	return "", false
}

// usage is the build cache, the last used first. A step has the size of the layers that it made.
func (c *Controller) usage(ctx context.Context) (list []*controlapi.UsageRecord, err error) {
	p, err := c.pruner()
	if err != nil {
		return nil, err
	}
	use, err := p.Store.Use(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, use.End()) }()
	u, err := p.Usage(ctx)
	if err != nil {
		return nil, err
	}
	for _, rec := range u.Records {
		r := &controlapi.UsageRecord{
			ID: rec.Key.Encoded()[:shownID], Description: redact.URLs(rec.Name), CreatedAt: timestamppb.New(rec.Created),
			LastUsedAt: timestamppb.New(rec.Used), RecordType: string(client.UsageRecordTypeRegular),
		}
		for _, out := range rec.Outputs {
			if len(out) > 0 {
				n, _ := p.Layers.Size(out[len(out)-1].DiffID) // a layer that is gone has no size
				r.Size += n
			}
		}
		list = append(list, r)
	}
	for _, m := range u.Mounts {
		list = append(list, &controlapi.UsageRecord{
			ID: m.Name[:min(shownID, len(m.Name))], Description: "cache mount " + m.ID, Mutable: true, Size: m.Size,
			CreatedAt: timestamppb.New(m.Used), LastUsedAt: timestamppb.New(m.Used), RecordType: string(client.UsageRecordTypeCacheMount),
		})
	}
	slices.SortStableFunc(list, func(a, b *controlapi.UsageRecord) int { return b.LastUsedAt.AsTime().Compare(a.LastUsedAt.AsTime()) })
	return list, nil
}

func (c *Controller) pruner() (*prune.Pruner, error) {
	b, err := c.o.NewBuilder(nil)
	if err != nil {
		return nil, err
	}
	return &prune.Pruner{Store: b.Store, Layers: b.Layers, Images: b.Images}, nil
}

// Prune removes build cache, as mica builder prune does.
func (c *Controller) Prune(req *controlapi.PruneRequest, stream controlapi.Control_PruneServer) error {
	ctx := stream.Context()
	match, err := usageFilter(req.Filter)
	if err != nil {
		return err
	}
	limits, err := pruneLimits(req)
	if err != nil {
		return err
	}
	before, err := c.usage(ctx)
	if err != nil {
		return err
	}
	if strings.Join(req.Filter, "") != "" {
		limits.Only = func(id string) bool {
			return slices.ContainsFunc(before, func(r *controlapi.UsageRecord) bool { return r.ID == id && match(r) })
		}
	}
	p, err := c.pruner()
	if err != nil {
		return err
	}
	removed, freed, err := p.Cache(ctx, limits)
	if err != nil {
		return err
	}
	// Steps share layers: what each has freed cannot be said, but all together.
	for _, r := range before {
		if slices.Contains(removed, r.ID) {
			if !r.Mutable {
				r.Size = 0
			}
			freed -= r.Size
			if err := stream.Send(r); err != nil {
				return err
			}
		}
	}
	if freed <= 0 {
		return nil
	}
	return stream.Send(&controlapi.UsageRecord{
		ID: "layers", Description: "layers and files of these records", Size: freed, CreatedAt: timestamppb.Now(), LastUsedAt: timestamppb.Now(),
		RecordType: string(client.UsageRecordTypeInternal),
	})
}

func pruneLimits(req *controlapi.PruneRequest) (prune.Limits, error) {
	var age []string
	if req.KeepDuration > 0 {
		age = []string{"unused-for=" + time.Duration(req.KeepDuration).String()}
	}
	keep := max(req.ReservedSpace, req.MaxUsedSpace)
	if req.MinFreeSpace > 0 {
		return prune.Limits{}, status.Error(codes.Unimplemented, "a prune for free space is not supported: give --max-used-space")
	}
	return prune.ParseLimits(req.All, age, fmt.Sprint(keep), time.Now())
}
