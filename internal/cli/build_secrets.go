package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/moby/buildkit/session/secrets"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/tonistiigi/go-csvvalue"

	"github.com/micabuild/mica/internal/agent"
)

// parseSecrets reads --secret: "id=name[,src=file|env=VARIABLE]". A secret is read when a step asks for it.
func parseSecrets(list []string) (func(context.Context, string) ([]byte, error), error) {
	var sources []secretsprovider.Source
	for _, s := range list {
		source, err := parseSecret(s)
		if err != nil {
			return nil, fmt.Errorf("invalid secret %q: %w", s, err)
		}
		sources = append(sources, *source)
	}
	store, err := secretsprovider.NewStore(sources)
	if err != nil {
		return nil, fmt.Errorf("secret: %w", err)
	}
	return func(ctx context.Context, id string) ([]byte, error) {
		data, err := store.GetSecret(ctx, id)
		if errors.Is(err, secrets.ErrNotFound) {
			return nil, fs.ErrNotExist
		}
		if err == nil && len(data) > secretsprovider.MaxSecretSize {
			return nil, fmt.Errorf("it has %d bytes: a secret has at most %d", len(data), secretsprovider.MaxSecretSize)
		}
		return data, err
	}, nil
}

func parseSecret(s string) (*secretsprovider.Source, error) {
	fields, err := csvvalue.Fields(s, nil)
	if err != nil {
		return nil, err
	}
	source, kind := &secretsprovider.Source{}, ""
	for _, f := range fields {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			return nil, fmt.Errorf("field %q must be a key=value pair", f)
		}
		switch strings.ToLower(key) {
		case "type":
			if value != "file" && value != "env" {
				return nil, fmt.Errorf("unsupported type %q: use file or env", value)
			}
			kind = value
		case "id":
			source.ID = value
		case "source", "src":
			source.FilePath = value
		case "env":
			source.Env = value
		default:
			return nil, fmt.Errorf("unexpected key %q: use id, src, env or type", key)
		}
	}
	if kind == "env" && source.Env == "" {
		source.Env, source.FilePath = source.FilePath, ""
	}
	return source, nil
}

// parseSSH reads --ssh: "default|<id>[=<socket>|<key>[,<key>]][,raw=true]".
func parseSSH(list []string) ([]agent.Source, error) {
	var agents []agent.Source
	for _, s := range list {
		id, rest, ok := strings.Cut(s, "=")
		a := agent.Source{ID: id}
		if ok {
			for path := range strings.SplitSeq(rest, ",") {
				raw, isRaw := strings.CutPrefix(path, "raw=")
				if !isRaw {
					a.Paths = append(a.Paths, path)
					continue
				}
				var err error
				if a.Raw, err = strconv.ParseBool(raw); err != nil {
					return nil, fmt.Errorf("invalid ssh %q: raw is true or false", s)
				}
			}
		}
		agents = append(agents, a)
	}
	return agents, nil
}
