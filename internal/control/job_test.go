package control

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestRequestBytes: the requests of the builds that run have a limit together.
func TestRequestBytes(t *testing.T) {
	t.Parallel()
	js := newJobs()
	first, err := js.begin("a", maxRequests-10)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.begin("b", 11); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("more than the limit: %v", err)
	}
	js.end(first)
	last, err := js.begin("b", 11)
	if err != nil {
		t.Fatalf("after the end of a build: %v", err)
	}
	if js.end(last); js.bytes != 0 || js.running != 0 {
		t.Errorf("%d bytes of %d builds are left", js.bytes, js.running)
	}
}
