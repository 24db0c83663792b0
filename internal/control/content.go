package control

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	sessioncontent "github.com/moby/buildkit/session/content"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	oras "oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
)

// Store returns a content store of the client: an OCI layout, or a local cache.
func (c *sessionClient) Store(ctx context.Context, session, id string) (oras.Storage, error) {
	caller, err := c.owner(ctx, session)
	if err != nil {
		return nil, err
	}
	return &clientStore{sessioncontent.NewCallerStore(caller, id), id}, nil
}

// clientStore is a content store of a client. What is read from it is not verified yet.
type clientStore struct {
	store content.Store
	id    string
}

// Exists reports whether the client has a blob.
func (s *clientStore) Exists(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	_, err := s.store.Info(ctx, d.Digest)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// Fetch opens a blob. A descriptor without a size is completed by the client's.
func (s *clientStore) Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if err := d.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("client's store %s: %w", s.id, err)
	}
	r, err := s.store.ReaderAt(ctx, d)
	if errdefs.IsNotFound(err) {
		err = &notFoundError{err}
	}
	if err != nil {
		return nil, fmt.Errorf("client's store %s: %w", s.id, err)
	}
	return &blob{io.NewSectionReader(r, 0, r.Size()), r}, nil
}

// notFoundError is the error of a client for a blob that it does not have, which package oras knows.
type notFoundError struct{ error }

func (e *notFoundError) Unwrap() error { return e.error }

func (e *notFoundError) Is(target error) bool { return target == errdef.ErrNotFound }

type blob struct {
	io.Reader
	io.Closer
}

// Push writes a blob, unless the client has it.
func (s *clientStore) Push(ctx context.Context, d ocispec.Descriptor, r io.Reader) (err error) {
	w, err := content.OpenWriter(ctx, s.store, content.WithRef("mica-"+d.Digest.String()), content.WithDescriptor(d))
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("client's store %s: %w", s.id, err)
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if err := content.Copy(ctx, w, r, d.Size, d.Digest); err != nil && !errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("client's store %s: %w", s.id, err)
	}
	return nil
}
