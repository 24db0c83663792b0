package solver

import (
	"fmt"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/opencontainers/go-digest"
)

// BenchmarkKey makes the key of an operation on a chain of 20 layers.
func BenchmarkKey(b *testing.B) {
	st := llb.Image("base").Run(llb.Shlex("echo hello"), llb.AddEnv("ROUND", "1")).Root()
	def, err := st.Marshal(b.Context(), llb.LinuxAmd64)
	if err != nil {
		b.Fatal(err)
	}
	below := &Result{}
	for i := range 20 {
		below.Chain = append(below.Chain, ChainLink{DiffID: digest.FromString(fmt.Sprint(i))})
	}
	b.ReportAllocs()
	for b.Loop() {
		var k Key
		if err := k.addOperation("exec", def.ToPB()); err != nil {
			b.Fatal(err)
		}
		k.addLayers("base", below)
		k.Digest()
	}
}
