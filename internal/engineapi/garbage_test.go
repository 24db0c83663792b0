package engineapi

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/moby/client"
)

// blobs is the number of blobs of the store.
func (r *rig) blobs() int {
	r.t.Helper()
	list, err := os.ReadDir(filepath.Join(r.server.o.Root, "blobs", "sha256"))
	if err != nil {
		r.t.Fatal(err)
	}
	return len(list)
}

// TestRemovalsCollectOnce: the first removal collects, those that follow leave it to what asks how full the store is, or to the server at rest.
func TestRemovalsCollectOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for i := range 4 {
		if _, err := r.dockerfile(fmt.Sprintf("FROM scratch\nLABEL n=%d\n", i), client.ImageBuildOptions{Tags: []string{fmt.Sprintf("i%d", i)}}); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(name string) {
		t.Helper()
		if _, err := r.ImageRemove(t.Context(), name, client.ImageRemoveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	all := r.blobs()
	remove("i0")
	first := r.blobs()
	if first >= all {
		t.Fatalf("the first removal leaves %d of %d blobs", first, all)
	}
	remove("i1")
	remove("i2")
	if got := r.blobs(); got != first {
		t.Errorf("removals that follow collect: %d blobs, there were %d", got, first)
	}
	if _, err := r.DiskUsage(t.Context(), client.DiskUsageOptions{}); err != nil {
		t.Fatal(err)
	}
	asked := r.blobs()
	if asked >= first {
		t.Errorf("docker system df counts garbage: %d blobs", asked)
	}
	remove("i3")
	r.server.CollectLeft(t.Context())
	if got := r.blobs(); got >= asked {
		t.Errorf("the server at rest leaves garbage: %d blobs", got)
	}
}
