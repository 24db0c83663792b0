package bridge

import (
	"strings"
	"testing"

	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestKept: what builds keep has a limit for each and one for all, beside which each may keep a little, and is given back at their ends.
func TestKept(t *testing.T) {
	t.Parallel()
	m := &Memory{}
	greedy := []*Kept{m.Build(), m.Build(), m.Build()}
	for i, k := range greedy[:2] {
		if err := k.Grow(maxKept); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		if err := k.Grow(1); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("%d: more than its limit: %v", i, err)
		}
	}
	if err := greedy[2].Grow(3*keptFree + 1); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("more than the limit for all: %v", err)
	}
	if err := greedy[2].Grow(3 * keptFree); err != nil || m.used != maxTotal {
		t.Errorf("the limit for all: %d, %v", m.used, err)
	}
	modest := m.Build()
	for range 2 {
		if err := modest.Grow(keptFree); err != nil {
			t.Errorf("a little: %v", err)
		}
		if err := modest.Grow(1); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("more than a little: %v", err)
		}
		if err := modest.Grow(-keptFree); err != nil {
			t.Error(err)
		}
	}
	for _, k := range append(greedy, modest, modest) {
		k.Close()
	}
	if m.used != 0 {
		t.Errorf("%d bytes are left", m.used)
	}
	if err := modest.Grow(1); status.Code(err) != codes.Canceled {
		t.Errorf("after the end: %v", err)
	}
}

// TestBytesGivenBack: a process that has ended and a container that was released keep next to nothing, nor does one that was refused.
func TestBytesGivenBack(t *testing.T) {
	t.Parallel()
	b, stream := newTalk(t, &stage{})
	before := b.kept.bytes
	large := strings.Repeat("l", 1<<20)
	for _, id := range []string{"1", "2"} {
		init := start("copy", 0, 1)
		init.Meta.Env = []string{large}
		stream.in <- message(id, init)
		stream.in <- message(id, &gwpb.FdMessage{EOF: true})
	}
	close(stream.in)
	if err := b.ExecProcess(stream); err != nil {
		t.Fatal(err)
	}
	req := &gwpb.NewContainerRequest{ContainerID: "d", Hostname: large}
	if _, err := b.NewContainer(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if b.kept.bytes < 1<<20 {
		t.Errorf("a container keeps %d bytes", b.kept.bytes)
	}
	if _, err := b.NewContainer(t.Context(), req); status.Code(err) != codes.AlreadyExists {
		t.Errorf("the same ID: %v", err)
	}
	if _, err := b.ReleaseContainer(t.Context(), &gwpb.ReleaseContainerRequest{ContainerID: "d"}); err != nil {
		t.Fatal(err)
	}
	if got := b.kept.bytes - before; got != 4*callSize {
		t.Errorf("%d bytes are kept, want those of four calls", got)
	}
}
