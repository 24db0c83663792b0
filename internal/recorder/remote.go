package recorder

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"github.com/micabuild/mica/internal/explain"
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

// caches has what remote caches tell of the builds that exported them.
type caches struct {
	mu   sync.Mutex // held while a note is read
	read map[*remotecache.Import]*explain.Explainer

	explainers []*explain.Explainer // with the lock of the recorder
}

func (c *caches) announced() {
	for _, x := range c.explainers {
		x.Announced()
	}
}

// miss is a remote cache without the result of a step, and what explains that; nil for a cache that tells nothing.
type miss struct {
	remotecache.Miss
	explainer *explain.Explainer
}

// nearest returns, of the caches with one name, which are those of an image for several platforms, the one that has the most in common
// with the step.
func (r *Recorder) nearest(list []remotecache.Miss) (nearest []miss) {
	for _, m := range list {
		i := slices.IndexFunc(nearest, func(o miss) bool { return o.Cache.Name == m.Cache.Name })
		switch {
		case i < 0:
			nearest = append(nearest, miss{Miss: m})
		case closer(m, nearest[i].Miss):
			nearest[i].Miss = m
		}
	}
	for i := range nearest {
		if nearest[i].Reason == remotecache.NoStep || nearest[i].Reason == remotecache.OtherInputs {
			nearest[i].explainer = r.remote(nearest[i].Cache)
		}
	}
	return nearest
}

// remote returns what explains steps by the build that exported a cache.
func (r *Recorder) remote(c *remotecache.Import) *explain.Explainer {
	r.caches.mu.Lock()
	defer r.caches.mu.Unlock()
	if x, ok := r.caches.read[c]; ok {
		return x
	}
	if r.caches.read == nil {
		r.caches.read = map[*remotecache.Import]*explain.Explainer{}
	}
	r.caches.read[c] = nil
	if c.Note == nil {
		return nil // what the keys say is still known
	}
	excerpt, err := explain.ReadExcerpt(c.Note, c.Name)
	if err != nil {
		return nil
	}
	x := explain.Remote(r.builds, r.build, excerpt)
	x.Lock = &r.mu
	r.mu.Lock()
	r.caches.explainers = append(r.caches.explainers, x)
	r.mu.Unlock()
	r.caches.read[c] = x
	return x
}

// Note returns what a cache that the build exports tells of it; nil for nothing.
func (r *Recorder) Note() []byte {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	data, err := explain.NewExcerpt(r.builds, r.build).Marshal()
	if err != nil || len(data) > explain.MaxExcerpt {
		r.keep(err)
		return nil
	}
	return data
}

// lost reports whether a cache would have had the result of a step, but for layers that are gone.
func lost(list []miss) bool {
	return slices.ContainsFunc(list, func(m miss) bool { return m.Reason == remotecache.Lost })
}

// misses are the causes why remote caches do not have the results of a step.
func (r *Recorder) misses(s *history.Step, v *solver.Vertex, list []miss) (missed []history.CacheMiss) {
	for _, m := range list {
		causes := m.causes(s)
		if len(causes) == 0 {
			causes = r.remoteCauses(v, m.Miss)
		}
		missed = append(missed, history.CacheMiss{Cache: m.Cache.Name, Causes: causes})
	}
	return missed
}

// causes are what distinguishes a step from the one like it in the build that exported the cache; none if that is not known.
func (m *miss) causes(s *history.Step) []history.Cause {
	if m.explainer == nil {
		return nil
	}
	causes := m.explainer.Differences(s)
	if slices.ContainsFunc(causes, func(c history.Cause) bool { return c.Kind == history.Unknown }) {
		return nil
	}
	return causes
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
	case remotecache.Lost:
		return []history.Cause{{Kind: history.LostLayers}}
	case remotecache.NoRecord:
		return []history.Cause{{Kind: history.NoRecord}}
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
