package explain

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/micabuild/mica/internal/history"
)

// operations compares the definitions of two steps.
func (d *difference) operations(now, old []history.Ingredient) {
	d.selectors, d.oldSelectors = map[string]string{}, map[string]string{}
	text, oldText := placeOf(d.step.Name).text, placeOf(d.oldStep.Name).text
	raw, known := d.instruction(d.now, d.step)
	oldRaw, oldKnown := d.instruction(d.old, d.oldStep)
	switch {
	case known && oldKnown && d.excerpt.seal(raw) != oldRaw:
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
		addSelectors(d.selectors, a)
		addSelectors(d.oldSelectors, b)
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
func addSelectors(selectors map[string]string, op fields) {
	mounts, _ := op["mounts"].([]any)
	for _, m := range mounts {
		m, _ := m.(map[string]any)
		selectors[fields(m).text("dest")] = fields(m).text("selector")
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
	d.environment(meta.list("env"), oldMeta.list("env"))
	if !d.movedTo(oldMeta.text("cwd"), meta.text("cwd")) {
		d.option("working directory", oldMeta.text("cwd"), meta.text("cwd"))
	}
	d.option("user", oldMeta.text("user"), meta.text("user"))
	d.option("host name", oldMeta.text("hostname"), meta.text("hostname"))
	d.rest(meta, oldMeta, "args", "env", "cwd", "user", "hostname", "proxy_env")
	if d.edited {
		return // what follows is part of the instruction
	}
	if !d.proxied {
		d.option("network", network(old), network(now))
	}
	d.option("security", old.text("security"), now.text("security"))
	mounts, shm := withoutShm(now)
	oldMounts, oldShm := withoutShm(old)
	if reflect.DeepEqual(mounts, oldMounts) {
		d.option("size of "+shmDir, oldShm, shm)
		d.rest(now, old, "meta", "network", "security", "mounts")
		return
	}
	d.rest(now, old, "meta", "network", "security")
}

// shmDir is what --shm-size is about: the compiler makes a mount of it.
const shmDir = "/dev/shm"

// withoutShm returns the mounts of a process but for that of shmDir, and the size of that in bytes.
func withoutShm(op fields) (mounts []any, size string) {
	list, _ := op["mounts"].([]any)
	for _, m := range list {
		one, _ := m.(map[string]any)
		if f := fields(one); f.text("dest") == shmDir {
			size = f.object("TmpfsOpt").text("size")
			continue
		}
		mounts = append(mounts, m)
	}
	return mounts, size
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
		for _, field := range []string{"dest", "path"} {
			if !d.movedTo(b.text(field), a.text(field)) {
				d.option("destination", b.text(field), a.text(field))
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
	d.add(d.hidden(history.Cause{Kind: history.Option, Name: name, Old: old, New: now}))
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
