package buildspec

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/tonistiigi/go-csvvalue"
)

// Secret is a file or an environment variable of the host that steps may read.
type Secret struct {
	ID  string `json:"id,omitempty"`
	Src string `json:"src,omitempty"`
	Env string `json:"env,omitempty"`
}

// ParseSecrets reads all --secret.
func ParseSecrets(list []string) ([]Secret, error) {
	var all []Secret
	for _, s := range list {
		secret, err := ParseSecret(s)
		if err != nil {
			return nil, fmt.Errorf("invalid secret %q: %w", s, err)
		}
		all = append(all, secret)
	}
	return all, nil
}

// ParseSecret reads "id=name,src=file" or "id=name,env=VARIABLE".
func ParseSecret(text string) (Secret, error) {
	var s Secret
	fields, err := csvvalue.Fields(text, nil)
	if err != nil {
		return s, err
	}
	kind := ""
	for _, f := range fields {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			return s, fmt.Errorf("field %q must be a key=value pair", f)
		}
		switch strings.ToLower(key) {
		case "type":
			if value != "file" && value != "env" {
				return s, fmt.Errorf("unsupported type %q: use file or env", value)
			}
			kind = value
		case "id":
			s.ID = value
		case "source", "src":
			s.Src = value
		case "env":
			s.Env = value
		default:
			return s, fmt.Errorf("unexpected key %q: use id, src, env or type", key)
		}
	}
	if kind == "env" && s.Env == "" {
		s.Env, s.Src = s.Src, ""
	}
	return s, nil
}

// SSH is an SSH agent of the host, or one with keys of the host, that steps may use.
type SSH struct {
	// ID is the name that a step uses, "" for the default.
	ID string
	// Paths are private keys, or one socket; none is the agent of $SSH_AUTH_SOCK.
	Paths []string
	// Raw forwards every byte to the socket, which then need not be an agent's.
	Raw bool
}

// ParseSSH reads all --ssh.
func ParseSSH(list []string) ([]SSH, error) {
	var all []SSH
	for _, s := range list {
		id, rest, ok := strings.Cut(s, "=")
		var paths []string
		if ok {
			paths = strings.Split(rest, ",")
		}
		agent, err := NewSSH(id, paths)
		if err != nil {
			return nil, fmt.Errorf("invalid ssh %q: %w", s, err)
		}
		all = append(all, agent)
	}
	return all, nil
}

// NewSSH takes "raw=true" from among the paths.
func NewSSH(id string, paths []string) (SSH, error) {
	s := SSH{ID: id}
	for _, path := range paths {
		raw, ok := strings.CutPrefix(path, "raw=")
		if !ok {
			s.Paths = append(s.Paths, path)
			continue
		}
		var err error
		if s.Raw, err = strconv.ParseBool(raw); err != nil {
			return s, fmt.Errorf("raw is true or false, not %q", raw)
		}
	}
	return s, nil
}
