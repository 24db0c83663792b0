package solver

import (
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
)

// FuzzParse gives arbitrary bytes for operations of a graph.
func FuzzParse(f *testing.F) {
	def, err := llb.Scratch().File(llb.Mkfile("/a", 0o600, nil)).Marshal(f.Context(), llb.LinuxAmd64)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(def.ToPB().Def[0], def.ToPB().Def[1])
	f.Fuzz(func(_ *testing.T, first, second []byte) {
		_, _ = parse(Kinds{}, &pb.Definition{Def: [][]byte{first, second}})
	})
}
