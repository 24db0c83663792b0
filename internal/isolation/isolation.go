// Package isolation names the ways in which the processes of steps are kept apart from the host, and finds the one that works.
package isolation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/micabuild/mica/internal/chroot"
	"github.com/micabuild/mica/internal/fakeroot"
	"github.com/micabuild/mica/internal/podroot"
	"github.com/micabuild/mica/internal/userns"
)

// Mode is a way to run the processes of steps.
type Mode string

// The modes.
const (
	Auto Mode = "auto" // the first of the others that works
	// OCI runs processes by an OCI runtime, as root or in a user namespace.
	OCI Mode = "oci"
	// Chroot runs processes as root by chroot, in copies of root filesystems, without namespaces.
	Chroot Mode = "chroot"
	// Fakeroot runs processes as a pretended root in the root directory of the container, with no more rights than its user.
	Fakeroot Mode = "fakeroot"
	// None runs no process: builds without RUN need no more.
	None Mode = "none"
)

// Variable is the environment variable with a mode, in place of the flag.
const Variable = "MICA_ISOLATION"

// Parse returns the mode that a flag names, or else the environment.
func Parse(flag string) (Mode, error) {
	from := "--isolation"
	if flag == "" {
		flag, from = os.Getenv(Variable), Variable
	}
	switch mode := Mode(cmp.Or(flag, string(Auto))); mode {
	case Auto, OCI, Chroot, Fakeroot, None:
		return mode, nil
	case "default": // Docker's word
		return Auto, nil
	default:
		return "", fmt.Errorf("%s: invalid isolation %q: use auto, oci, chroot, fakeroot or none", from, flag)
	}
}

// Found is how this process runs the processes of steps.
type Found struct {
	Mode Mode
	// Reason says why Mode is not OCI; nil if it is, or if the user has chosen.
	Reason error
	// Root is where processes run by Fakeroot.
	Root *podroot.Root
}

// Find tries what works here. It enters the user namespace that the OCI runtime needs: the process then starts again with args, and Find
// does not return. For a mode that was chosen it returns the error if that cannot work.
func Find(ctx context.Context, chosen Mode, args []string) (Found, error) {
	switch chosen {
	case None:
		return Found{Mode: None}, nil
	case Chroot:
		if err := chroot.Try(); err != nil {
			return Found{}, err
		}
		return Found{Mode: Chroot}, nil
	case Fakeroot:
		root, err := findRoot(ctx)
		if err != nil {
			return Found{}, fmt.Errorf("isolation fakeroot: %w", err)
		}
		return Found{Mode: Fakeroot, Root: root}, nil
	}
	err := userns.Enter(args)
	var refused *userns.RefusedError
	switch {
	case err == nil:
		return Found{Mode: OCI}, nil
	case chosen == OCI || !errors.As(err, &refused):
		return Found{}, err
	}
	if chroot.Try() == nil {
		return Found{Mode: Chroot, Reason: err}, nil
	}
	root, rootErr := findRoot(ctx)
	if rootErr == nil {
		return Found{Mode: Fakeroot, Reason: err, Root: root}, nil
	}
	return Found{Mode: None, Reason: fmt.Errorf("%w; isolation fakeroot: %w", err, rootErr)}, nil
}

// findRoot returns the root directory of this container if processes can run there as a pretended root.
func findRoot(ctx context.Context) (*podroot.Root, error) {
	root, err := podroot.Find()
	if err != nil {
		return nil, err
	}
	return root, fakeroot.Try(ctx)
}

// HasContainers reports whether processes other than steps run, such as a shell in a step that has failed.
func (f Found) HasContainers() bool { return f.Mode == OCI || f.Mode == "" }

// Unable returns the error of a process that cannot run in this mode, nil if processes run.
func (f Found) Unable() error {
	switch {
	case f.Mode != None:
		return nil
	case f.Reason == nil:
		return errors.New("the isolation that was chosen, none, runs no processes")
	}
	return fmt.Errorf("no process can be isolated here: %w", f.Reason)
}
