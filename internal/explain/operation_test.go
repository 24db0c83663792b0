package explain

import (
	"reflect"
	"slices"
	"testing"

	"github.com/micabuild/mica/internal/history"
)

// TestDecode: operations are read as they are recorded, and what is not JSON has no fields.
func TestDecode(t *testing.T) {
	t.Parallel()
	f := decode(`{"a":"x","n":12345678901234567890,"l":["y",3],"o":{"p":"q"},"z":null} sha256:0123`)
	if f.text("a") != "x" || f.text("n") != "12345678901234567890" || f.text("no") != "" || !slices.Equal(f.list("l"), []string{"y", "3"}) || f.object("o").text("p") != "q" {
		t.Errorf("%v", f)
	}
	if len(f.list("a")) != 0 || f.object("a") != nil || f.object("no").object("no").text("x") != "" {
		t.Errorf("fields of another type: %v", f)
	}
	for _, value := range []string{"", "x", "[1]", `{"a":`} {
		if f := decode(value); f.text("a") != "" {
			t.Errorf("%q is %v", value, f)
		}
	}
}

// TestWithoutShm: the mount of --shm-size is no mount of the instruction.
func TestWithoutShm(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]struct {
		dests []string
		size  string
	}{
		`{}`: {nil, ""},
		`{"mounts":[{"dest":"/"},{"dest":"/dev/shm","TmpfsOpt":{"size":64}}]}`:                {[]string{"/"}, "64"},
		`{"mounts":[{"dest":"/dev/shm","TmpfsOpt":{"size":64}},{"dest":"/a"},{"dest":"/b"}]}`: {[]string{"/a", "/b"}, "64"},
		`{"mounts":[{"dest":"/dev/shm"}]}`:                                                    {nil, ""},
	} {
		mounts, size := withoutShm(decode(value))
		var dests []string
		for _, m := range mounts {
			one, _ := m.(map[string]any)
			dests = append(dests, fields(one).text("dest"))
		}
		if !reflect.DeepEqual(dests, want.dests) || size != want.size {
			t.Errorf("%s: %q and %q", value, dests, size)
		}
	}
}

// TestNetworks: the networks of a RUN by their names.
func TestNetworks(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{`{}`: "default", `{"network":0}`: "default", `{"network":1}`: "host", `{"network":2}`: "none"} {
		if got := network(decode(value)); got != want {
			t.Errorf("%s: %s, want %s", value, got, want)
		}
	}
}

// TestRest: every field that is not the same is named, in the user's terms if it has a term there.
func TestRest(t *testing.T) {
	t.Parallel()
	now := decode(`{"same":1,"modeStr":"755","ulimit":[{"n":2}],"new":true,"skipped":2}`)
	old := decode(`{"same":1,"modeStr":"644","ulimit":[{"n":1}],"gone":"x","skipped":1}`)
	d := &difference{comparison: &comparison{now: &history.Build{}, old: &history.Build{}}, step: &history.Step{}, oldStep: &history.Step{}, seen: map[history.Cause]bool{}}
	d.rest(now, old, "skipped")
	want := []string{"gone: no longer set", `mode: "644" → "755"`, `new: set to "true"`, `ulimit: "[{\"n\":1}]" → "[{\"n\":2}]"`}
	if got := texts(d.now, d.causes); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestWorkdirs: a path that a WORKDIR above has moved is no change of the instruction.
func TestWorkdirs(t *testing.T) {
	t.Parallel()
	old := chain("FROM a", "WORKDIR /a", "RUN x", "WORKDIR b", "COPY f .")
	for name, tt := range map[string]struct {
		now   *history.Build
		moved bool
		by    string
	}{
		"the nearest":     {chain("FROM a", "WORKDIR /a", "RUN x", "WORKDIR c", "COPY f ."), true, "[4/5] WORKDIR c"},
		"the one above":   {chain("FROM a", "WORKDIR /z", "RUN x", "WORKDIR b", "COPY f ."), true, "[2/5] WORKDIR /z"},
		"one more":        {chain("FROM a", "WORKDIR /", "WORKDIR /a", "RUN x", "WORKDIR b", "COPY f ."), true, "[2/6] WORKDIR /"},
		"one less":        {chain("FROM a", "RUN x", "WORKDIR b", "COPY f ."), true, ""},
		"the same":        {chain("FROM a", "WORKDIR /a", "RUN x", "WORKDIR b", "COPY f ."), false, ""},
		"another command": {chain("FROM a", "WORKDIR /a", "RUN y", "WORKDIR b", "COPY f ."), false, ""},
	} {
		last := func(b *history.Build) *history.Step { return b.Steps[len(b.Steps)-1] }
		d := &difference{comparison: &comparison{now: tt.now, old: old}, step: last(tt.now), oldStep: last(old)}
		moved := d.movedTo("/old", "/new")
		by := ""
		if d.moved != nil {
			by = d.moved.Name
		}
		if moved != tt.moved || by != tt.by {
			t.Errorf("%s: %t by %q", name, moved, by)
		}
		if !d.movedTo("/same", "/same") {
			t.Errorf("%s: a path that is the same has moved", name)
		}
	}
}
