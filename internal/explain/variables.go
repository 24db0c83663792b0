package explain

import (
	"maps"
	"slices"
	"strings"

	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/redact"
)

// variable is a value that is not the same in two builds.
type variable struct {
	kind           history.Kind // Argument or Environment
	name, old, now string
}

// changedVariables are the build arguments that differ, given or by their defaults, and the variables that the Dockerfiles set to
// different values.
func (c *comparison) changedVariables() (list []variable) {
	now, old := c.files[c.now], c.files[c.old]
	args, oldArgs := maps.Clone(now.Args), maps.Clone(old.Args)
	if args == nil {
		args = map[string]string{}
	}
	if oldArgs == nil {
		oldArgs = map[string]string{}
	}
	maps.Copy(args, c.excerpt.sealValues(c.now.Args))
	maps.Copy(oldArgs, c.old.Args)
	list = changed(history.Argument, args, oldArgs)
	return append(list, changed(history.Environment, now.Env, old.Env)...)
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
func (d *difference) environment(nowList, oldList []string) {
	now, old := environ(nowList), environ(oldList)
	if maps.Equal(now, old) && !slices.Equal(nowList, oldList) {
		d.add(history.Cause{Kind: history.Option, Name: "order of the environment"})
		return
	}
	names := maps.Clone(now)
	maps.Copy(names, old)
	base, oldBase := baseOf(d.now, d.step), baseOf(d.old, d.oldStep)
	baseEnv, oldEnv := d.excerpt.sealValues(base.environment()), oldBase.environment()
	for _, name := range slices.Sorted(maps.Keys(names)) {
		from, to := old[name], now[name]
		_, had := old[name]
		_, has := now[name]
		if from == to && had == has || d.edited && name == sshSocket {
			continue
		}
		own := func(a variable) bool { // of a secret, the history has digests alone
			return a.kind == history.Argument && a.name == name && (a.old == from && a.now == to || redact.IsSecret(name))
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
		d.add(d.hidden(variable{history.Environment, name, from, to}.cause()))
	}
}

// sshSocket is a variable that the compiler sets for a mount of an SSH agent.
const sshSocket = "SSH_AUTH_SOCK"

// cause is the cause that the variable is. It does not show the value of a secret.
func (a variable) cause() history.Cause {
	if redact.IsSecret(a.name) {
		return history.Cause{Kind: a.kind, Name: a.name, Change: history.Content}
	}
	return history.Cause{Kind: a.kind, Name: a.name, Old: a.old, New: a.now}
}

// hidden removes the values of a cause if a secret argument differs: they may be made of it.
func (d *difference) hidden(c history.Cause) history.Cause {
	if slices.ContainsFunc(d.args, func(a variable) bool { return redact.IsSecret(a.name) }) {
		c.Old, c.New = "", ""
	}
	return c
}

// byBase adds the base image as the cause of a difference that only it can explain: it is another one, and neither the Dockerfile nor
// a build argument is.
func (d *difference) byBase() bool {
	base, old := baseOf(d.now, d.step), baseOf(d.old, d.oldStep)
	if base == nil || old == nil || base.Source.Identifier == old.Source.Identifier || !d.sameText() || len(d.args) > 0 {
		return false
	}
	d.add(d.base((*history.Step)(base), (*history.Step)(old))...)
	return true
}

// sameText reports whether both builds had the same Dockerfile.
func (c *comparison) sameText() bool {
	return c.now.Text != "" && c.excerpt.seal(c.now.Text) == c.old.Text
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

func changed(kind history.Kind, now, old map[string]string) (list []variable) {
	names := map[string]string{}
	maps.Copy(names, now)
	maps.Copy(names, old)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if now[name] != old[name] {
			list = append(list, variable{kind, name, old[name], now[name]})
		}
	}
	return list
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
