package builder

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/micabuild/mica/internal/buildspec"
)

// epochArg is the build argument SOURCE_DATE_EPOCH as the compiler knows it.
const epochArg = "build-arg:SOURCE_DATE_EPOCH"

// dated returns a copy of the outputs. It gives the build argument SOURCE_DATE_EPOCH to the outputs that have no source-date-epoch of their own, if it is a time, or empty for
// no limit. Any other value, such as "context", is for the front end, which returns the time that it has found with its result.
func dated(outputs []buildspec.Output, opts map[string]string) []buildspec.Output {
	outputs = slices.Clone(outputs)
	value, ok := opts[epochArg]
	if _, err := parseEpoch(value); !ok || err != nil {
		return outputs
	}
	for i := range outputs {
		if outputs[i].Form.Epoch == nil {
			outputs[i].Form.Epoch = &value
		}
	}
	return outputs
}

// withEpoch is the platform with the limit for its times that the output asks for, or else the front end.
func (b *built) withEpoch(f buildspec.Form) (*built, error) {
	if f.Epoch == nil {
		return b, nil
	}
	at := *b
	var err error
	at.epoch, err = parseEpoch(*f.Epoch)
	return &at, err
}

// parseEpoch reads seconds since 1970, nil for "" (https://reproducible-builds.org/specs/source-date-epoch/).
func parseEpoch(s string) (*time.Time, error) {
	if s == "" {
		return nil, nil
	}
	seconds, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("invalid SOURCE_DATE_EPOCH: %q is not a number of seconds", s)
	}
	at := time.Unix(seconds, 0).UTC()
	return &at, nil
}
