package registry

import (
	"context"
	"testing"

	"github.com/docker/cli/cli/config/configfile"

	"github.com/micabuild/mica/internal/hostfiles"
)

// lent counts how often the root directory was asked for.
type lent int

func (l *lent) Exclude(context.Context) (func() error, error) {
	*l++
	return func() error { return nil }, nil
}

// A helper is a program of the host, which must not be that of a step.
func TestHelperIsTheHosts(t *testing.T) { //nolint:paralleltest // the lender is the process's
	var count lent
	hostfiles.SetLender(&count)
	t.Cleanup(func() { hostfiles.SetLender(nil) }) // before the tests that run at the same time
	t.Setenv("PATH", "")
	docker := configfile.New("")
	docker.CredentialHelpers = map[string]string{"example.com": "none"}
	c := New(Options{Docker: docker})
	if err := c.ReadHostFiles(); err != nil {
		t.Fatal(err)
	}
	count = 0
	if _, err := c.credential(t.Context(), "example.org", "app"); err != nil || count != 0 {
		t.Errorf("a registry without a helper: %v, %d", err, count)
	}
	if _, err := c.credential(t.Context(), "example.com", "app"); err == nil || count != 1 {
		t.Errorf("a registry with a helper: %v, %d", err, count)
	}
}
