package buildspec

import (
	"fmt"
	"maps"
	"time"
)

// DefaultScope is the name of a cache of type gha that has none.
const DefaultScope = "buildkit"

// ActionsCache is a cache of type gha, with the attributes of BuildKit. Without a token the environment of a GitHub Actions job has it.
type ActionsCache struct {
	Scope, URL, Token string
	Timeout           time.Duration
}

var actionsAttributes = []string{"scope", "url", "url_v2", "token", "timeout", "version", "ghtoken", "repository"}

func (a *ActionsCache) set(key, value string) (err error) {
	switch key {
	case "scope":
		a.Scope = value
	case "url", "url_v2": // in this order: url_v2 wins
		a.URL = value
	case "token":
		a.Token = value
	case "timeout":
		if a.Timeout, err = time.ParseDuration(value); err != nil || a.Timeout <= 0 {
			return fmt.Errorf("cache attribute %s: %q is not a duration", key, value)
		}
	case "version":
		if value != "2" {
			return fmt.Errorf("cache attribute %s: %q is not a version of the GitHub Actions cache that is supported: use 2", key, value)
		}
	}
	return nil // ghtoken and repository let BuildKit list the keys: mica asks for each
}

// withoutTokens returns the entry as errors show it.
func (e Entry) withoutTokens() Entry {
	attrs := maps.Clone(e.Attrs)
	for _, k := range []string{"token", "ghtoken", "access_key_id", "secret_access_key", "session_token"} {
		if _, ok := attrs[k]; ok {
			attrs[k] = "xxxxx"
		}
	}
	if v, ok := attrs["account_url"]; ok {
		attrs["account_url"] = withoutSignature(v)
	}
	e.Attrs = attrs
	return e
}
