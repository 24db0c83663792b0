package compression

import (
	"cmp"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// Levels that a Writer takes where none is given: the defaults of the libraries.
const (
	DefaultGzipLevel = 5
	DefaultZstdLevel = 3
)

// CheckLevel refuses a level that the algorithm does not have. 0 stands for the default.
func CheckLevel(a Algorithm, level int) error {
	most := map[Algorithm]int{Gzip: 9, Estargz: 9, Zstd: 22, None: 0}
	top, ok := most[a]
	switch {
	case !ok:
		return fmt.Errorf("unknown compression %q: use gzip, zstd, estargz or uncompressed (none)", a)
	case level < 0 || level > top:
		return fmt.Errorf("compression level %d: %s has 1 to %d", level, a, top)
	}
	return nil
}

// NewWriter compresses what is written to it, on all processors. The same input gives the same output. level 0 is the
// default. Close ends the stream, not w.
func NewWriter(w io.Writer, a Algorithm, level int) (io.WriteCloser, error) {
	if err := CheckLevel(a, level); err != nil {
		return nil, err
	}
	switch a {
	case Gzip:
		return newMemberWriter(w, cmp.Or(level, DefaultGzipLevel)), nil
	case Zstd:
		speed := zstd.EncoderLevelFromZstd(cmp.Or(level, DefaultZstdLevel))
		return zstd.NewWriter(w, zstd.WithEncoderLevel(speed), zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)))
	case None:
		return nopCloser{w}, nil
	}
	return nil, fmt.Errorf("%s is a form of layers, and none of streams", a)
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// Recipe names what NewWriter does, so that a later run can tell whether it would do the same: "zstd:3".
func Recipe(a Algorithm, level int) string {
	name := string(a)
	switch a {
	case Gzip:
		name, level = "gzip-members", cmp.Or(level, DefaultGzipLevel)
	case Zstd:
		level = cmp.Or(level, DefaultZstdLevel)
	}
	return fmt.Sprintf("%s:%d", name, level)
}

// ParseRecipe returns what NewWriter is to be given to do what a recipe names; ok is false where it does so no more.
func ParseRecipe(recipe string) (a Algorithm, level int, ok bool) {
	for _, a := range []Algorithm{Gzip, Zstd} {
		prefix, _, _ := strings.Cut(Recipe(a, 0), ":")
		number, found := strings.CutPrefix(recipe, prefix+":")
		if level, err := strconv.Atoi(number); found && err == nil {
			return a, level, Recipe(a, level) == recipe
		}
	}
	return None, 0, false
}
