package layer

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/micabuild/mica/internal/crash"
)

// faulty is a reader that fails as a library does that meets what it does not expect.
type faulty struct{}

func (faulty) Read([]byte) (int, error) { panic("a fault") }

// TestFaultOfAReader: a panic in the goroutine that reads a layer is the error of the one who asked.
func TestFaultOfAReader(t *testing.T) {
	l := newLayers(t)
	in := io.MultiReader(bytes.NewReader(tarOf(t, everything()...)[:1024]), faulty{})
	_, _, err := l.Ingest(t.Context(), in, "", "")
	var fault *crash.Error
	if !errors.As(err, &fault) {
		t.Errorf("%v", err)
	}
	wantNothing(t, l)
}
