package remoteexec

import (
	"context"
	"errors"
	"io/fs"
	"net"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/session/auth"
	"github.com/moby/buildkit/session/secrets"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/moby/buildkit/session/sshforward"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// secretsOf gives the other side the secrets of one process.
type secretsOf struct {
	get func(ctx context.Context, id string) ([]byte, error)
}

func (s *secretsOf) Register(server *grpc.Server) {
	secretsprovider.NewSecretProvider(s).Register(server)
}

// GetSecret returns a secret.
func (s *secretsOf) GetSecret(ctx context.Context, id string) ([]byte, error) {
	value, err := s.get(ctx, id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, secrets.ErrNotFound
	}
	return value, err
}

// agentsOf gives the other side the SSH agents of one process.
type agentsOf struct {
	get func(ctx context.Context, id string) func(net.Conn)
}

func (a *agentsOf) Register(server *grpc.Server) { sshforward.RegisterSSHServer(server, a) }

// CheckAgent reports whether there is an agent.
func (a *agentsOf) CheckAgent(ctx context.Context, req *sshforward.CheckAgentRequest) (*sshforward.CheckAgentResponse, error) {
	if a.get(ctx, idOf(req.ID)) == nil {
		return nil, status.Errorf(codes.NotFound, "unset ssh forward key %s", idOf(req.ID))
	}
	return &sshforward.CheckAgentResponse{}, nil
}

// ForwardAgent serves a connection to an agent.
func (a *agentsOf) ForwardAgent(stream sshforward.SSH_ForwardAgentServer) error {
	id := ""
	if md, ok := metadata.FromIncomingContext(stream.Context()); ok {
		if v := md.Get(sshforward.KeySSHID); len(v) > 0 {
			id = v[0]
		}
	}
	serve := a.get(stream.Context(), idOf(id))
	if serve == nil {
		return status.Errorf(codes.NotFound, "unset ssh forward key %s", idOf(id))
	}
	ours, theirs := net.Pipe()
	go serve(theirs)
	return sshforward.Copy(stream.Context(), ours, stream, nil)
}

func idOf(id string) string {
	if id == "" {
		return sshforward.DefaultID
	}
	return id
}

// credentialsOf gives the other side the credentials for the registry of a repository, and for no other.
type credentialsOf struct {
	repository string
	get        func(ctx context.Context, host string) (user, secret string, err error)
}

func (c *credentialsOf) Register(server *grpc.Server) {
	auth.RegisterAuthServer(server, &authServer{c: c})
}

type authServer struct {
	auth.UnimplementedAuthServer
	c *credentialsOf
}

// Credentials returns the credentials for a registry; empty for another one than that of the repository.
func (s *authServer) Credentials(ctx context.Context, req *auth.CredentialsRequest) (*auth.CredentialsResponse, error) {
	if !s.c.covers(req.Host) {
		return &auth.CredentialsResponse{}, nil
	}
	user, secret, err := s.c.get(ctx, req.Host)
	if err != nil {
		return nil, err
	}
	return &auth.CredentialsResponse{Username: user, Secret: secret}, nil
}

// covers reports whether a host is that of the repository, which Docker Hub's has several names for.
func (c *credentialsOf) covers(host string) bool {
	named, err := reference.ParseNormalizedNamed(c.repository)
	if err != nil {
		return false
	}
	domain := reference.Domain(named)
	if domain == "docker.io" {
		return host == domain || host == "registry-1.docker.io" || host == "index.docker.io" || host == "https://index.docker.io/v1/"
	}
	return host == domain
}
