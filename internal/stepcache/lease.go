package stepcache

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/registry"
)

// LeaseType is the type of the manifests that are leases.
const LeaseType = "application/vnd.mica.lease.v1"

// leasePrefix begins the tag of a lease; the hex digits of the step's key follow.
const leasePrefix = "lease-"

// LeaseTag returns the tag of the lease of a step with a key.
func LeaseTag(key digest.Digest) string { return leasePrefix + key.Encoded() }

// The annotations of a lease.
const (
	annotationHolder  = "mica.lease.holder"  // a random name
	annotationState   = "mica.lease.state"   // what the holder does
	annotationRenewal = "mica.lease.renewal" // how often it was renewed: another number is another manifest
)

// The states of a lease.
const (
	leaseHeld   = "held"   // its holder runs the step, or writes the result
	leaseDone   = "done"   // the cache has the result
	leaseFailed = "failed" // there is no result to wait for
	leaseFree   = "free"   // the holder was stopped
)

// leaseState is what a lease says. It is compared, and nothing in it is trusted: false leases cost time, not results.
type leaseState struct {
	holder, state string
	renewal       int
}

// readLease returns the lease of a step, the zero value for none. Another manifest under its tag is no lease.
func readLease(ctx context.Context, at Repository, key digest.Digest) (leaseState, error) {
	m, err := at.Manifest(ctx, LeaseTag(key))
	if registry.IsNotFound(err) {
		return leaseState{}, nil
	}
	if err != nil {
		return leaseState{}, err
	}
	return parseLease(m.Raw), nil
}

func parseLease(raw []byte) leaseState {
	var m ocispec.Manifest
	if json.Unmarshal(raw, &m) != nil || m.ArtifactType != LeaseType {
		return leaseState{}
	}
	n, err := strconv.Atoi(m.Annotations[annotationRenewal])
	if err != nil {
		return leaseState{}
	}
	return leaseState{m.Annotations[annotationHolder], m.Annotations[annotationState], n}
}

// writeLease moves the tag of a lease.
func writeLease(ctx context.Context, at Repository, key digest.Digest, s leaseState) error {
	return writeNote(ctx, at, LeaseType, LeaseTag(key), map[string]string{
		annotationHolder: s.holder, annotationState: s.state, annotationRenewal: strconv.Itoa(s.renewal),
		annotationWritten: time.Now().UTC().Format(time.RFC3339), // for Prune alone
	})
}
