package buildcache

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// TestKeysDoNotCollide: fields are delimited, so that moving a letter from one to the next makes another key.
func TestKeysDoNotCollide(t *testing.T) {
	t.Parallel()
	keys := map[digest.Digest]string{}
	for _, fields := range [][3]string{{"a", "b", "c"}, {"ab", "", "c"}, {"a", "bc", ""}, {"", "ab", "c"}, {"a", "b1:", "c"}, {"a", "b", "1:c"}} {
		var k Key
		k.Add(fields[0], fields[1], fields[2])
		if other, ok := keys[k.Digest()]; ok {
			t.Errorf("%q and %s have one key", fields, other)
		}
		keys[k.Digest()] = strings.Join(fields[:], "|")
	}
}

// testKey has an ingredient of each kind.
func testKey(t *testing.T) Key {
	t.Helper()
	var k Key
	if err := k.AddOperation("exec", &pb.ExecOp{Meta: &pb.Meta{Args: []string{"true", "<&>"}}}); err != nil {
		t.Fatal(err)
	}
	k.Add(KindPlatform, "", "linux/amd64")
	k.AddLayers(0, "/", NewChain(link("a"), link("b")))
	k.AddLayers(0, "/empty", Chain{})
	k.Add(KindMount, "/m", "sum")
	k.Add(KindSource, "/s", "sum")
	return k
}

// TestKeyOfThisVersion: a change of how keys are made must raise keyVersion, and gives every step another key. Then no cache hits.
func TestKeyOfThisVersion(t *testing.T) {
	t.Parallel()
	k := testKey(t)
	want := []Ingredient{
		{"operation", "exec", `{"meta":{"args":["true","<&>"]}}`},
		{"platform", "", "linux/amd64"},
		{"layers", "/", "sha256:51c0c8ace48498d6f5fee6b0592cc06f2da0f3cbe09c5a34a97dce85c3889676"},
		{"layers", "/empty", ""},
		{"mount", "/m", "sum"},
		{"source", "/s", "sum"},
	}
	if !slices.Equal(k.Ingredients, want) {
		t.Errorf("ingredients %q", k.Ingredients)
	}
	if got := k.Digest(); got != "sha256:dc2083fe358afd9542a71ce45a5d7b78a099e572512aaa391dd560695eebd508" {
		t.Errorf("key %s", got)
	}
}

// TestEachIngredientCounts: a change of any field, an order or the number of ingredients gives another key.
func TestEachIngredientCounts(t *testing.T) {
	t.Parallel()
	k := testKey(t)
	seen := map[digest.Digest]string{k.Digest(): "the key itself"}
	check := func(what string, list []Ingredient) {
		other := Key{Ingredients: list}
		if same, ok := seen[other.Digest()]; ok {
			t.Errorf("%s gives the key of %s", what, same)
		}
		seen[other.Digest()] = what
	}
	for i := range k.Ingredients {
		for field := range 3 {
			list := slices.Clone(k.Ingredients)
			*[]*string{&list[i].Kind, &list[i].Name, &list[i].Value}[field] += "x"
			check(fmt.Sprintf("field %d of ingredient %d", field, i), list)
		}
		check(fmt.Sprintf("removal of ingredient %d", i), slices.Delete(slices.Clone(k.Ingredients), i, i+1))
		if i > 0 {
			list := slices.Clone(k.Ingredients)
			list[i-1], list[i] = list[i], list[i-1]
			check(fmt.Sprintf("exchange of ingredients %d and %d", i-1, i), list)
		}
	}
}

// TestLayersCountByContent: when a layer was made and what made it do not change a key.
func TestLayersCountByContent(t *testing.T) {
	t.Parallel()
	key := func(chain Chain) digest.Digest {
		var k Key
		k.AddLayers(0, "base", chain)
		return k.Digest()
	}
	plain := NewChain(Link{DiffID: link("a").DiffID}, Link{DiffID: link("b").DiffID})
	if key(plain) != key(NewChain(link("a")).On(link("b"))) {
		t.Error("times or descriptions of layers are in the key")
	}
	if key(plain) == key(NewChain(link("b"), link("a"))) {
		t.Error("the order of layers is not in the key")
	}
}

func TestOperationsWithCredentials(t *testing.T) {
	t.Parallel()
	values := map[string]bool{}
	for url, shown := range map[string]string{
		"https://host/x":       "https://host/x",
		"https://u:pw@host/x":  "https://xxxxx:xxxxx@host/x",
		"https://u:pw2@host/x": "https://xxxxx:xxxxx@host/x",
		"https://u2:pw@host/x": "https://xxxxx:xxxxx@host/x",
	} {
		var k Key
		if err := k.AddOperation("file", &pb.SourceOp{Identifier: url}); err != nil {
			t.Fatal(err)
		}
		value := k.Ingredients[0].Value
		if !strings.Contains(value, shown) || strings.Contains(value, "pw") {
			t.Errorf("%s: %s", url, value)
		}
		if values[value] {
			t.Errorf("%s: another operation has the same description", url)
		}
		values[value] = true
	}
	var k Key
	if err := k.AddOperation("file", func() {}); err == nil || !strings.HasPrefix(err.Error(), "describe file operation: ") {
		t.Errorf("an operation that is not JSON: %v", err)
	}
}

// BenchmarkKey makes the key of an operation on a chain of 20 layers.
func BenchmarkKey(b *testing.B) {
	st := llb.Image("base").Run(llb.Shlex("echo hello"), llb.AddEnv("ROUND", "1")).Root()
	def, err := st.Marshal(b.Context(), llb.LinuxAmd64)
	if err != nil {
		b.Fatal(err)
	}
	var below Chain
	for i := range 20 {
		below = below.On(Link{DiffID: digest.FromString(fmt.Sprint(i))})
	}
	b.ReportAllocs()
	for b.Loop() {
		var k Key
		if err := k.AddOperation("exec", def.ToPB()); err != nil {
			b.Fatal(err)
		}
		k.AddLayers(0, "base", below)
		k.Digest()
	}
}
