package recorder

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"github.com/micabuild/mica/internal/redact"
)

const (
	// minSecret is how long a secret is at least: shorter values are in texts by chance.
	minSecret = 4
	// maxSecrets bounds the secrets of a build: front ends may ask others for any number of builds.
	maxSecrets = 1000
)

// secrets are the values of secret arguments, which the compiler expands in the names of steps. They are safe for concurrent use.
type secrets struct {
	mu     sync.Mutex
	values []string // the longest first: one may begin another
	masked *strings.Replacer
}

// newSecrets returns those of some build arguments.
func newSecrets(args map[string]string) *secrets {
	s := &secrets{}
	s.add(args)
	return s
}

// add adds the secrets of more build arguments.
func (s *secrets) add(args map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, value := range args {
		if redact.IsSecret(name) && len(value) >= minSecret && len(s.values) < maxSecrets && !slices.Contains(s.values, value) {
			s.values, s.masked = append(s.values, value), nil
		}
	}
}

// mask replaces the secrets in a text.
func (s *secrets) mask(text string) string { return s.replacer().Replace(text) }

func (s *secrets) replacer() *strings.Replacer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.masked == nil {
		slices.SortFunc(s.values, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
		var pairs []string
		for _, v := range s.values {
			pairs = append(pairs, v, "xxxxx")
		}
		s.masked = strings.NewReplacer(pairs...)
	}
	return s.masked
}

// Asked notes the options with which a front end asks for another one: their secrets are not recorded either.
func (r *Recorder) Asked(opts map[string]string) {
	if r == nil {
		return
	}
	args := map[string]string{}
	for k, v := range opts {
		if name, ok := strings.CutPrefix(k, "build-arg:"); ok {
			args[name] = v
		}
	}
	r.secrets.add(args)
}
