package explain

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/command"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/redact"
)

// operations compares the definitions of two steps.
func (d *difference) operations(now, old []history.Ingredient) {
	d.selectors = map[string]string{}
	text, oldText := placeOf(d.step.Name).text, placeOf(d.oldStep.Name).text
	raw, known := d.instruction(d.now, d.step)
	oldRaw, oldKnown := d.instruction(d.old, d.oldStep)
	switch {
	case known && oldKnown && raw != oldRaw:
		d.edit()
	case known && oldKnown:
		d.raw = raw
	}
	if len(now) != len(old) {
		d.edit()
		return
	}
	if text != oldText && d.raw == "" && !d.edited && len(now) > 0 && now[0].Name != "exec" && !d.derived(oldText, text) {
		d.edit()
	}
	for i := range now {
		a, b := decode(now[i].Value), decode(old[i].Value)
		d.addSelectors(a)
		switch {
		case now[i].Value == old[i].Value:
		case reflect.DeepEqual(a, b):
			d.add(history.Cause{Kind: history.Option, Name: "the credentials of a URL"})
		case now[i].Name == "exec":
			d.exec(a, b, text != oldText)
		default:
			d.action(a, b)
		}
	}
}

// edit adds that the instruction is another one.
func (d *difference) edit() {
	d.edited = true
	d.add(history.Cause{Kind: history.Command})
}

// addSelectors notes where in their sources the mounts of a process begin.
func (d *difference) addSelectors(op fields) {
	mounts, _ := op["mounts"].([]any)
	for _, m := range mounts {
		m, _ := m.(map[string]any)
		d.selectors[fields(m).text("dest")] = fields(m).text("selector")
	}
}

// fields is an operation as JSON has it.
type fields map[string]any

// decode reads an operation. Behind the JSON a digest may follow.
func decode(value string) fields {
	var f fields
	dec := json.NewDecoder(strings.NewReader(value))
	dec.UseNumber()
	_ = dec.Decode(&f)
	return f
}

func (f fields) object(name string) fields {
	o, _ := f[name].(map[string]any)
	return o
}

func (f fields) text(name string) string {
	if s, ok := f[name].(string); ok {
		return s
	}
	if v, ok := f[name]; ok {
		return fmt.Sprint(v)
	}
	return ""
}

func (f fields) list(name string) []string {
	raw, _ := f[name].([]any)
	list := make([]string, len(raw))
	for i, v := range raw {
		list[i] = fmt.Sprint(v)
	}
	return list
}

// exec compares two processes. Their texts may differ although the instruction is the same: variables are replaced in them.
func (d *difference) exec(now, old fields, otherText bool) {
	meta, oldMeta := now.object("meta"), old.object("meta")
	flags := []string{"mounts", "network", "security", "secretenv"}
	if otherText && d.raw == "" && slices.ContainsFunc(flags, func(f string) bool { return !reflect.DeepEqual(now[f], old[f]) }) {
		d.edit()
	}
	d.command(meta.list("args"), oldMeta.list("args"), otherText)
	d.environment(environ(meta.list("env")), environ(oldMeta.list("env")))
	if !d.movedTo(oldMeta.text("cwd"), meta.text("cwd")) {
		d.option("working directory", oldMeta.text("cwd"), meta.text("cwd"))
	}
	d.option("user", oldMeta.text("user"), meta.text("user"))
	d.option("host name", oldMeta.text("hostname"), meta.text("hostname"))
	d.rest(meta, oldMeta, "args", "env", "cwd", "user", "hostname", "proxy_env")
	if d.edited {
		return // what follows is part of the instruction
	}
	d.option("network", network(old), network(now))
	d.option("security", old.text("security"), now.text("security"))
	d.rest(now, old, "meta", "network", "security")
}

func network(f fields) string {
	switch f.text("network") {
	case "1":
		return "host"
	case "2":
		return "none"
	}
	return "default"
}

// command compares two argument lists. That of a shell differs from the instruction's text by the shell alone.
func (d *difference) command(now, old []string, otherText bool) {
	if slices.Equal(now, old) || d.edited {
		return
	}
	if n, m := len(now)-1, len(old)-1; n > 0 && m > 0 && now[n] == old[m] && !otherText {
		d.option("shell", strings.Join(old[:m], " "), strings.Join(now[:n], " "))
		return
	}
	if !d.derived(strings.Join(old, " "), strings.Join(now, " ")) {
		d.edit()
	}
}

// action compares two file operations.
func (d *difference) action(now, old fields) {
	for kind := range now.object("Action") {
		a, b := now.object("Action").object(kind), old.object("Action").object(kind)
		if b == nil {
			d.add(history.Cause{Kind: history.Command})
			return
		}
		if a.text("data") != b.text("data") {
			d.edit() // a here-document
		}
		d.epoch(epoch(b), epoch(a))
		d.excludes = [2][]string{append(d.excludes[0], a.list("exclude_patterns")...), append(d.excludes[1], b.list("exclude_patterns")...)}
		if d.edited {
			return
		}
		for field, name := range map[string]string{"dest": "destination", "path": "destination"} {
			if !d.movedTo(b.text(field), a.text(field)) {
				d.option(name, b.text(field), a.text(field))
			}
		}
		if d.raw != "" && text(a, "src", "dest", "path") != text(b, "src", "dest", "path") && len(d.causes) == 0 {
			d.referred()
		}
		d.option("source", b.text("src"), a.text("src"))
		d.rest(a, b, "dest", "path", "src", "timestamp")
	}
}

// text is the fields of an operation as one text.
func text(f fields, names ...string) string {
	var list []string
	for _, n := range names {
		list = append(list, f.text(n))
	}
	return strings.Join(list, "\x00")
}

// referred adds the variables that the instruction names, and that differ: its text in the Dockerfile is the same as before.
func (d *difference) referred() {
	for _, a := range d.args {
		if strings.Contains(d.raw, "$"+a.name) || strings.Contains(d.raw, "${"+a.name) {
			d.add(a.cause())
		}
	}
}

// epoch compares the times that a copy gives to files, in nanoseconds since 1970.
func (d *difference) epoch(old, now string) {
	if old == now {
		return
	}
	const name = "SOURCE_DATE_EPOCH"
	if i := slices.IndexFunc(d.args, func(a variable) bool { return a.name == name }); i >= 0 {
		d.add(d.args[i].cause())
		return
	}
	d.option(name, old, now)
}

func epoch(f fields) string {
	if s := f.text("timestamp"); s != "-1" {
		return s
	}
	return ""
}

// rest adds a cause for every other field that is not the same.
func (d *difference) rest(now, old fields, but ...string) {
	names := map[string]bool{}
	for name := range now {
		names[name] = true
	}
	for name := range old {
		names[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if slices.Contains(but, name) || reflect.DeepEqual(now[name], old[name]) {
			continue
		}
		d.option(words(name), compact(old[name]), compact(now[name]))
	}
}

// words are the names of fields in the user's terms.
func words(field string) string {
	known := map[string]string{
		"extraHosts": "extra hosts", "ulimit": "ulimit", "cgroupParent": "cgroup parent", "mounts": "mounts", "secretenv": "secrets in the environment",
		"exclude_patterns": "exclude patterns", "owner": "owner", "mode": "mode", "modeStr": "mode", "validExitCodes": "exit codes",
	}
	if w, ok := known[field]; ok {
		return w
	}
	return field
}

func compact(v any) string {
	if v == nil {
		return ""
	}
	if s, ok := v.(string); ok {
		return s
	}
	data, _ := json.Marshal(v)
	return string(data)
}

// ofBase are the options that the config of a base image may set.
var ofBase = []string{"user", "owner", "working directory", "shell"}

// option adds a cause for a value that is not the same, unless a build argument explains it.
func (d *difference) option(name, old, now string) {
	if old == now || d.edited && (name == "source" || name == "destination") || d.derived(old, now) || slices.Contains(ofBase, name) && d.byBase() {
		return
	}
	if (name == "source" || name == "destination") && d.raw != "" && len(d.causes) > 0 {
		return // what else changed is the cause: the instruction is the same
	}
	d.add(history.Cause{Kind: history.Option, Name: name, Old: old, New: now})
}

// environ is an environment by names.
func environ(list []string) map[string]string {
	env := map[string]string{}
	for _, kv := range list {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	return env
}

// environment compares two environments: what build arguments, and what variables explain the difference.
func (d *difference) environment(now, old map[string]string) {
	names := maps.Clone(now)
	maps.Copy(names, old)
	base, oldBase := baseOf(d.now, d.step), baseOf(d.old, d.oldStep)
	baseEnv, oldEnv := base.environment(), oldBase.environment()
	for _, name := range slices.Sorted(maps.Keys(names)) {
		from, to := old[name], now[name]
		_, had := old[name]
		_, has := now[name]
		if from == to && had == has {
			continue
		}
		own := func(a variable) bool {
			return a.kind == history.Argument && a.name == name && a.old == from && a.now == to
		}
		if i := slices.IndexFunc(d.args, own); i >= 0 {
			d.add(d.args[i].cause())
			continue
		}
		if d.derivedBy(history.Argument, from, to) {
			continue
		}
		if base != nil && oldBase != nil && baseEnv[name] != oldEnv[name] && baseEnv[name] == to && oldEnv[name] == from {
			d.add(d.base((*history.Step)(base), (*history.Step)(oldBase))...)
			continue
		}
		if d.byBase() {
			continue
		}
		d.add(variable{history.Environment, name, from, to}.cause())
	}
}

func (a variable) cause() history.Cause {
	if redact.IsSecret(a.name) {
		return history.Cause{Kind: a.kind, Name: a.name, Change: history.Content}
	}
	return history.Cause{Kind: a.kind, Name: a.name, Old: a.old, New: a.now}
}

// byBase adds the base image as the cause of a difference that only it can explain: it is another one, and neither the Dockerfile nor
// a build argument is.
func (d *difference) byBase() bool {
	base, old := baseOf(d.now, d.step), baseOf(d.old, d.oldStep)
	if base == nil || old == nil || base.Source.Identifier == old.Source.Identifier || d.now.Text == "" || d.now.Text != d.old.Text || len(d.args) > 0 {
		return false
	}
	d.add(d.base((*history.Step)(base), (*history.Step)(old))...)
	return true
}

// baseImage is the source of the image that a stage begins with, nil for none.
type baseImage history.Step

func baseOf(b *history.Build, s *history.Step) *baseImage {
	for s != nil && s.Source == nil && len(s.Inputs) > 0 {
		s = b.Step(s.Inputs[0])
	}
	if s == nil || s.Source == nil {
		return nil
	}
	return (*baseImage)(s)
}

func (b *baseImage) environment() map[string]string {
	if b == nil {
		return nil
	}
	return environ(b.Source.Env)
}

// changedVariables are the build arguments that differ, given or by their defaults, and the variables that the Dockerfiles set to
// different values.
func changedVariables(now, old *history.Build) (list []variable) {
	args, env := declared(now.Text)
	oldArgs, oldEnv := declared(old.Text)
	maps.Copy(args, now.Args)
	maps.Copy(oldArgs, old.Args)
	list = changed(history.Argument, args, oldArgs)
	return append(list, changed(history.Environment, env, oldEnv)...)
}

func changed(kind history.Kind, now, old map[string]string) (list []variable) {
	names := maps.Clone(now)
	maps.Copy(names, old)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if now[name] != old[name] {
			list = append(list, variable{kind, name, old[name], now[name]})
		}
	}
	return list
}

// instructions returns the instructions of a Dockerfile by their first lines.
func instructions(dockerfile string) map[int]string {
	list := map[int]string{}
	parsed, err := parser.Parse(strings.NewReader(dockerfile))
	if err != nil {
		return list
	}
	for _, n := range parsed.AST.Children {
		text := n.Original
		for _, doc := range n.Heredocs {
			text += "\n" + doc.Content
		}
		list[n.StartLine] = text
	}
	return list
}

// declared returns the build arguments that a Dockerfile declares, with their defaults, and the variables that it sets, with their
// values as they are written. Of several values of one name, the last one counts.
func declared(dockerfile string) (args, env map[string]string) {
	args, env = map[string]string{}, map[string]string{}
	parsed, err := parser.Parse(strings.NewReader(dockerfile))
	if err != nil {
		return args, env
	}
	unquoted := func(s string) string { return strings.Trim(s, `"'`) }
	for _, n := range parsed.AST.Children {
		switch strings.ToLower(n.Value) {
		case command.Arg:
			for arg := n.Next; arg != nil; arg = arg.Next {
				if name, value, ok := strings.Cut(arg.Value, "="); ok {
					args[name] = unquoted(value)
				}
			}
		case command.Env: // a name, a value and the sign between them, three nodes each
			for at := n.Next; at != nil && at.Next != nil; {
				env[at.Value] = unquoted(at.Next.Value)
				if at = at.Next.Next; at != nil {
					at = at.Next
				}
			}
		}
	}
	return args, env
}

// derived reports whether build arguments, or variables of the environment, explain that a text became another, and adds those as
// causes.
func (d *difference) derived(old, now string) bool {
	return d.derivedBy(history.Argument, old, now) || d.derivedBy(history.Environment, old, now)
}

// derivedBy is derived by variables of one kind: the new text is the old one with the new values in the place of the old ones.
func (d *difference) derivedBy(kind history.Kind, old, now string) bool {
	text := old
	var used []variable
	for _, a := range d.args {
		if a.kind != kind {
			continue
		}
		if substitute(a, old, now) == now {
			d.add(a.cause())
			return true
		}
		if next := substitute(a, text, now); next != text {
			text = next
			used = append(used, a)
		}
	}
	if text != now || len(used) == 0 {
		return false
	}
	for _, a := range used {
		d.add(a.cause())
	}
	return true
}

// substitute replaces the old value of an argument in a text by the new one. For an argument without an old value, it says what
// the text becomes if now without the new value is the text.
func substitute(a variable, text, now string) string {
	switch {
	case a.old != "":
		return strings.ReplaceAll(text, a.old, a.now)
	case a.now != "" && strings.ReplaceAll(now, a.now, "") == text:
		return now
	}
	return text
}

// movedTo reports whether two paths differ by the working directory, for which a WORKDIR above is the cause.
func (d *difference) movedTo(old, now string) bool {
	if old == now {
		return true
	}
	dirs, oldDirs := workdirs(d.now, d.step), workdirs(d.old, d.oldStep)
	for i, dir := range dirs {
		if i >= len(oldDirs) || placeOf(dir.Name).text != placeOf(oldDirs[i].Name).text {
			d.moved = dir
			return true
		}
	}
	return len(dirs) < len(oldDirs)
}

// workdirs are the WORKDIR instructions of a step's stage that come before it, the nearest first.
func workdirs(b *history.Build, s *history.Step) (list []*history.Step) {
	for s != nil {
		if placeOf(s.Name).verb() == "WORKDIR" {
			list = append(list, s)
		}
		if len(s.Inputs) == 0 {
			return list
		}
		s = b.Step(s.Inputs[0])
	}
	return list
}
