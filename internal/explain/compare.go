package explain

import (
	"cmp"
	"slices"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/view"
)

// comparison compares a build with an earlier one.
type comparison struct {
	e        *Explainer
	now, old *history.Build
	excerpt  *Excerpt // that old is of; nil for a build of the store
	pairs    map[digest.Digest]placed
	files    map[*history.Build]*dockerfile
	args     []variable // build arguments and variables that differ
}

// instruction returns the text of a step's instruction in the Dockerfile, with its here-documents.
func (c *comparison) instruction(b *history.Build, s *history.Step) (string, bool) {
	text, ok := c.files[b].Instructions[s.Line]
	return text, ok && s.Line > 0
}

// like returns the step of the earlier build that stands in the place of s, nil for none.
func (c *comparison) like(s *history.Step) *history.Step {
	c.pair()
	return c.pairs[s.Vertex].Step
}

// pair pairs the steps of the two builds, unless they are.
func (c *comparison) pair() {
	if c.pairs == nil {
		c.pairs = match(c.now, c.old)
		c.files = map[*history.Build]*dockerfile{c.now: parseDockerfile(c.now.Text), c.old: parseDockerfile(c.old.Text)}
		if c.excerpt != nil {
			c.files = map[*history.Build]*dockerfile{c.now: c.excerpt.sealFile(c.files[c.now]), c.old: &c.excerpt.Dockerfile}
		}
		c.args = c.changedVariables()
	}
}

// differences compares two steps.
func (c *comparison) differences(s, old *history.Step) []history.Cause {
	if s.Key == "" || s.Key == old.Key {
		return nil
	}
	if old.Key == "" {
		return unknown("a remote cache had its result in build " + c.old.Ref + ": what it was made of is not known")
	}
	now, err := c.e.builds.Ingredients(s.Key)
	if err != nil {
		return unknown("what the step read was not recorded")
	}
	before, err := c.before(old.Key)
	if err != nil {
		return unknown("what the step read in build " + c.old.Ref + " is no longer recorded")
	}
	d := &difference{comparison: c, step: s, oldStep: old, seen: map[history.Cause]bool{}}
	if c.excerpt != nil {
		now = c.excerpt.sealAll(now)
	}
	d.compare(now, before)
	if len(d.causes) == 0 && d.moved != nil {
		d.add(history.Cause{Kind: history.Result, Step: d.moved.Vertex})
	}
	if len(d.causes) == 0 {
		return unknown("its key differs from that in build " + c.old.Ref)
	}
	return d.causes
}

// before returns the ingredients of a key of the earlier build. Those of an excerpt are sealed, and so are those of now then.
func (c *comparison) before(key digest.Digest) ([]history.Ingredient, error) {
	if c.excerpt != nil {
		return c.excerpt.ingredients(key)
	}
	return c.e.builds.Ingredients(key)
}

func unknown(what string) []history.Cause {
	return []history.Cause{{Kind: history.Unknown, Name: what}}
}

// difference collects the causes of one step.
type difference struct {
	*comparison
	step, oldStep *history.Step
	causes        []history.Cause
	seen          map[history.Cause]bool
	raw           string        // the instruction in the Dockerfile, if it is the same in both builds
	proxied       bool          // the network is another one because it is a proxy, now or before
	edited        bool          // the instruction is not the same in the Dockerfile
	excludes      [2][]string   // the patterns of a copy, now and before
	moved         *history.Step // the WORKDIR that explains another directory
	// Of mounts, by their targets: the paths in their sources, now and before.
	selectors, oldSelectors map[string]string
}

// maxCauses bounds the causes of a step that are kept: a change of the umask changes every file.
const maxCauses = 1000

func (d *difference) add(list ...history.Cause) {
	for _, c := range list {
		switch {
		case d.seen[c]:
		case len(d.seen) < maxCauses:
			d.causes = append(d.causes, c)
		case len(d.seen) == maxCauses:
			d.causes = append(d.causes, history.Cause{Kind: history.Unknown, Name: "more files changed than are listed"})
		}
		d.seen[c] = true
	}
}

// byKind sorts ingredients by their kinds.
func byKind(list []history.Ingredient) map[string][]history.Ingredient {
	kinds := map[string][]history.Ingredient{}
	for _, in := range list {
		kinds[in.Kind] = append(kinds[in.Kind], in)
	}
	return kinds
}

func (d *difference) compare(nowList, oldList []history.Ingredient) {
	now, old := byKind(nowList), byKind(oldList)
	if from, to := first(old["platform"]), first(now["platform"]); from != to {
		d.add(history.Cause{Kind: history.Platform, Old: from, New: to})
	}
	d.proxy(now, old)
	d.operations(now["operation"], old["operation"])
	d.layers(now["layers"], old["layers"])
	for _, kind := range []string{"source", "mount"} {
		d.sources(now[kind], old[kind])
	}
}

// proxy explains that the network of a process is a proxy now, or no longer is. An instruction does not say so.
func (d *difference) proxy(now, old map[string][]history.Ingredient) {
	from, to := first(old["network"]), first(now["network"])
	if from == to {
		return
	}
	d.proxied = true
	d.option("network", cmp.Or(from, network(decode(first(old["operation"])))), cmp.Or(to, network(decode(first(now["operation"])))))
}

func first(list []history.Ingredient) string {
	if len(list) == 0 {
		return ""
	}
	return list[0].Value
}

// paired calls yield for the ingredients that both lists have, by their names, in order.
func paired(now, old []history.Ingredient, yield func(now, old history.Ingredient)) {
	rest := slices.Clone(old)
	for _, in := range now {
		i := slices.IndexFunc(rest, func(o history.Ingredient) bool { return o.Name == in.Name })
		if i < 0 {
			continue
		}
		yield(in, rest[i])
		rest = slices.Delete(rest, i, i+1)
	}
}

func input(b *history.Build, s *history.Step, in history.Ingredient) *history.Step {
	if in.Input < 0 || in.Input >= len(s.Inputs) {
		return nil
	}
	return b.Step(s.Inputs[in.Input])
}

// layers explains chains that are not the same by what is beneath.
func (d *difference) layers(now, old []history.Ingredient) {
	paired(now, old, func(in, was history.Ingredient) {
		if in.Value == was.Value {
			return
		}
		d.add(d.beneath(input(d.now, d.step, in), input(d.old, d.oldStep, was))...)
	})
	switch {
	case len(now) > 0 && len(old) == 0:
		d.add(d.beneath(input(d.now, d.step, now[0]), nil)...)
	case len(now) == 0 && len(old) > 0:
		d.add(d.beneath(nil, input(d.old, d.oldStep, old[0]))...)
	}
}

// scratch is the base of a stage without an image.
const scratch = "scratch"

// beneath explains why the result of a step, or of a base image, is not that of the one which an earlier build had in its place.
func (c *comparison) beneath(now, old *history.Step) []history.Cause {
	switch {
	case now == nil && old == nil:
		return nil
	case now == nil && old.Source != nil:
		name := imageName(old.Source.Identifier)
		return []history.Cause{{Kind: history.Base, Name: scratch, Old: name, New: scratch}}
	case now == nil:
		return c.removed(nil, old)
	case now.Source != nil && old == nil:
		name := imageName(now.Source.Identifier)
		return []history.Cause{{Kind: history.Base, Name: name, Old: scratch, New: name}}
	case now.Source != nil && old.Source == nil:
		return c.removed(now, old)
	case now.Source != nil:
		return c.base(now, old)
	}
	like := c.like(now)
	if text, linked := strings.CutPrefix(placeOf(now.Name).text, "LINK "); linked && like == nil { // the second part of a COPY --link
		for _, in := range now.Inputs {
			if part := c.now.Step(in); part != nil && placeOf(part.Name).text == text && c.like(part) != nil {
				return []history.Cause{{Kind: history.Result, Step: part.Vertex}}
			}
		}
	}
	if like == nil {
		list := []history.Cause{{Kind: history.Inserted, Name: now.Name, Step: now.Vertex}}
		if len(now.Inputs) > 0 && old != nil {
			if from := c.now.Step(now.Inputs[0]); from != nil && from.Output != old.Output {
				list = append(list, c.beneath(from, old)...)
			}
		}
		return list
	}
	if like.Output == now.Output {
		return c.removed(now, old)
	}
	if now.Key != "" {
		return []history.Cause{{Kind: history.Result, Step: now.Vertex}}
	}
	if list := c.joined(now, like); len(list) > 0 {
		return list
	}
	return []history.Cause{{Kind: history.Result, Step: now.Vertex}}
}

// joined explains a step without a key, which joins the results of its inputs, by those that are not the same.
func (c *comparison) joined(now, old *history.Step) (list []history.Cause) {
	for i, in := range now.Inputs {
		from := c.now.Step(in)
		if from == nil || i >= len(old.Inputs) {
			continue
		}
		if was := c.old.Step(old.Inputs[i]); was == nil || was.Output != from.Output {
			list = append(list, c.beneath(from, was)...)
		}
	}
	return list
}

// removed names the steps of the earlier build between old, which a step was built on, and the counterpart of now, which it is built
// on now: the Dockerfile no longer has them.
func (c *comparison) removed(now, old *history.Step) (list []history.Cause) {
	var stop *history.Step
	if now != nil {
		stop = c.like(now)
	} else {
		c.pair()
	}
	kept := map[digest.Digest]bool{}
	for _, p := range c.pairs {
		kept[p.Vertex] = true
	}
	for s := old; s != nil && s != stop && s.Source == nil; {
		if !kept[s.Vertex] {
			list = append(list, history.Cause{Kind: history.Deleted, Name: strings.Replace(s.Name, "] LINK ", "] ", 1)})
		}
		if len(s.Inputs) == 0 {
			break
		}
		s = c.old.Step(s.Inputs[0])
	}
	if len(list) == 0 {
		return []history.Cause{{Kind: history.Command}}
	}
	return list
}

// sources explains files that are not the same.
func (d *difference) sources(now, old []history.Ingredient) {
	paired(now, old, func(in, was history.Ingredient) {
		if in.Value == was.Value {
			return
		}
		from, before := input(d.now, d.step, in), input(d.old, d.oldStep, was)
		if from != nil && before != nil && from.Source != nil && before.Source != nil && len(from.Source.Layers) > 0 && len(before.Source.Layers) > 0 {
			d.add(d.base(from, before)...)
			return
		}
		if d.edited && from != nil && before != nil && (from.Source == nil) != (before.Source == nil) {
			return // the instruction names another stage or the context now
		}
		for _, s := range []*history.Step{d.step, from} {
			if url := downloaded(s); url != "" {
				d.download(url, d.pins(in, was, from, before))
				return
			}
		}
		if in.Kind == "mount" && d.selectors[in.Name] != d.oldSelectors[in.Name] && len(d.causes) > 0 {
			return // it mounts another directory now
		}
		d.files(in, was, from, before)
	})
}

// download adds that a download is another one, unless the instruction explains it: it asks for another form of the same commit.
func (d *difference) download(url string, pins [2]string) {
	if pins[0] != "" && commitOf(pins[0]) == commitOf(pins[1]) {
		d.edit()
		return
	}
	d.add(history.Cause{Kind: history.Remote, Name: url})
}

// pins returns what a download was found to be, now and before: it is the ingredient of the step, or of the source that it copies from.
func (d *difference) pins(in, was history.Ingredient, from, before *history.Step) (pins [2]string) {
	if downloaded(d.step) != "" {
		return [2]string{in.Value, was.Value}
	}
	if from == nil || before == nil {
		return pins
	}
	now, err := d.e.builds.Ingredients(from.Key)
	old, oldErr := d.before(before.Key)
	if err == nil && oldErr == nil && len(now) == 1 && len(old) == 1 {
		pins = [2]string{now[0].Value, old[0].Value}
	}
	return pins
}

// commitOf is the commit in what a git source was found to be: options of the checkout follow it.
func commitOf(pin string) string {
	if i := strings.IndexAny(pin, ".:("); i >= 0 && !strings.HasPrefix(pin, "sha256:") {
		return pin[:i]
	}
	return pin
}

// downloaded returns the URL of a source over http or git, "" for any other step.
func downloaded(s *history.Step) string {
	if s == nil || s.Source == nil {
		return ""
	}
	switch scheme, _, _ := strings.Cut(s.Source.Identifier, "://"); scheme {
	case "http", "https", "git":
		return cmp.Or(s.Source.URL, s.Source.Identifier)
	}
	return ""
}

// files compares the files of two selections.
func (d *difference) files(in, was history.Ingredient, from, before *history.Step) {
	var step digest.Digest
	if from != nil && from.Source == nil {
		step = from.Vertex
		if placeOf(from.Name).number == 0 && placeOf(from.Name).stage == "internal" {
			d.add(history.Cause{Kind: history.Command, Name: in.Name}) // the text of a here-document
			return
		}
	}
	changes, err := d.changes(in, was)
	if err != nil {
		if step != "" {
			d.add(history.Cause{Kind: history.Result, Step: step})
			return
		}
		d.add(history.Cause{Kind: history.Unknown, Name: "files of " + in.Name + " changed"})
		return
	}
	ignored, excluded := ignores(from, before), selects(d.excludes[1], d.excludes[0])
	for _, ch := range changes {
		was, is := excluded(strings.TrimPrefix(strings.TrimPrefix(ch.Path(), strings.Trim(in.Name, "/")), "/"))
		if ch.Old == nil && was && !is || ch.New == nil && is && !was {
			continue // the instruction excludes other files now
		}
		d.add(fileCauses(ch, step, ignored)...)
	}
}

func (d *difference) changes(in, was history.Ingredient) ([]view.FileChange, error) {
	if d.e.Lock != nil { // nothing below but d is used by others
		d.e.Lock.Unlock()
		defer d.e.Lock.Lock()
	}
	data, err := d.filesBefore(digest.Digest(was.Value))
	if err != nil {
		return nil, err
	}
	old, err := view.UnmarshalListing(data)
	if err != nil {
		return nil, err
	}
	if data, err = d.e.builds.Files(digest.Digest(in.Value)); err != nil {
		return nil, err
	}
	now, err := view.UnmarshalListing(data)
	if err != nil {
		return nil, err
	}
	src := in.Name
	if in.Kind == "mount" {
		src = d.selectors[in.Name]
	}
	return view.Differences(old, now, src)
}

// filesBefore returns the list of the files that a step of the earlier build read.
func (c *comparison) filesBefore(sum digest.Digest) ([]byte, error) {
	if c.excerpt != nil {
		return c.excerpt.files(sum)
	}
	return c.e.builds.Files(sum)
}

// ignores returns a function that reports whether an ignore file that was edited left a path out, and whether it does now.
func ignores(from, before *history.Step) func(path string) (was, is bool) {
	if from == nil || before == nil || from.Source == nil || before.Source == nil || slices.Equal(from.Source.Excludes, before.Source.Excludes) {
		return func(string) (bool, bool) { return false, false }
	}
	return selects(before.Source.Excludes, from.Source.Excludes)
}

// selects returns a function that reports whether patterns matched a path, and whether others do now.
func selects(before, now []string) func(path string) (was, is bool) {
	matches := func(patterns []string) func(string) bool {
		m, err := patternmatcher.New(patterns)
		return func(path string) bool {
			if err != nil {
				return false
			}
			ok, err := m.MatchesOrParentMatches(path)
			return ok && err == nil
		}
	}
	was, is := matches(before), matches(now)
	return func(path string) (bool, bool) { return was(path), is(path) }
}
