package recorder

import (
	"cmp"
	"slices"
	"strings"

	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/redact"
	"github.com/micabuild/mica/internal/remotecache"
	"github.com/micabuild/mica/internal/solver"
)

// Unread records that a remote cache could not be read.
func (r *Recorder) Unread(cache string, err error) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.build.Caches = append(r.build.Caches, history.UnreadCache{Name: cache, Error: redact.URLs(err.Error())})
}

// misses are the causes why remote caches do not have the results of a step. Of the caches with one name, which are those of an image
// for several platforms, the one that has the most in common with the step counts.
func (r *Recorder) misses(v *solver.Vertex, list []remotecache.Miss) (missed []history.CacheMiss) {
	best := map[string]remotecache.Miss{}
	var names []string
	for _, m := range list {
		had, ok := best[m.Cache.Name]
		if !ok {
			names = append(names, m.Cache.Name)
		}
		if !ok || closer(m, had) {
			best[m.Cache.Name] = m
		}
	}
	for _, name := range names {
		missed = append(missed, history.CacheMiss{Cache: name, Causes: r.remoteCauses(v, best[name])})
	}
	return missed
}

func closer(a, b remotecache.Miss) bool {
	return cmp.Or(cmp.Compare(a.Reason, b.Reason), cmp.Compare(len(b.Inputs), len(a.Inputs))) > 0
}

func (r *Recorder) remoteCauses(v *solver.Vertex, m remotecache.Miss) []history.Cause {
	switch m.Reason {
	case remotecache.OtherPlatform:
		return []history.Cause{{Kind: history.OtherPlatform, Old: m.Platform}}
	case remotecache.NoResult:
		return []history.Cause{{Kind: history.NoResult}}
	case remotecache.NoLayers:
		return []history.Cause{{Kind: history.NoLayers}}
	case remotecache.Unsearched:
		return []history.Cause{{Kind: history.Unknown, Name: redact.URLs(m.Err.Error())}}
	case remotecache.OtherInputs:
		var causes []history.Cause
		for _, in := range m.Inputs {
			if c := r.otherInput(v.Inputs[in.Index].Vertex, in.Known); !slices.Contains(causes, c) {
				causes = append(causes, c)
			}
		}
		return causes
	}
	return []history.Cause{{Kind: history.NoStep}}
}

// otherInput says which kind of input a remote cache has another of.
func (r *Recorder) otherInput(v *solver.Vertex, known bool) history.Cause {
	c := history.Cause{Kind: history.OtherInput, Change: history.OfNoStep, Step: v.Digest}
	if known {
		c.Change = history.OfStep
	}
	src := v.Op.GetSource()
	if src == nil {
		return c
	}
	c.Step = ""
	scheme, rest, _ := strings.Cut(redact.URLs(src.Identifier), "://")
	switch scheme {
	case "local":
		c.Change, c.Name = history.OfFiles, "the context "+rest
		if rest == "context" {
			c.Name = "the build context"
		}
	case "docker-image", "oci-layout":
		c.Change, c.Name = history.OfBase, rest
	default:
		c.Change, c.Name = history.OfRemote, scheme+"://"+rest
	}
	return c
}
