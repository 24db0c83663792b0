//go:build e2e

package main

import "os/exec"

// mainStore is the name of the engines that most rows share.
const mainStore = "main"

// A row is one thing that is measured.
type row struct {
	group, name string
	note        string // what is unlike in what is compared
	target      target
	kinds       []kind // who takes part
	of          kind   // whose time the target is of, if not mica's
	memory      int64  // the peak memory that is asked for, if not memoryTarget
	// rest says that the memory is not the peak of a run, but what the engine has when nothing has happened for a while.
	rest bool
	// store names the engines, shared with other rows of the same name; without a name, each run has an engine of its
	// own, made for it.
	store string
	// content is the size of the image that a run leaves in its own engine, if disk space is measured, too.
	content int64
	// setup is done once for an engine, prepare before each run; neither is measured.
	setup, prepare func(e engine) error
	// command is what is measured.
	command func(e engine) (*exec.Cmd, error)
}

// target is what mica is to reach; what is 0 is not asked for.
type target struct {
	Ratio   float64 `json:"ratio,omitempty"`   // of mica's time to that of the best peer, at most
	Seconds float64 `json:"seconds,omitempty"` // at most
}

// The limits of all rows.
const (
	diskTarget   = 1.05         // bytes on disk by bytes of the image's content
	memoryTarget = int64(150e6) // bytes of mica's processes
)

var (
	builders  = []kind{kindMica, kindBuildKit, kindDocker, kindBuildah}
	withNames = []kind{kindMica, kindDocker, kindBuildah} // those that have images by name
)

// rows lists what is measured, in the order of the table.
func (b *bench) rows() []row {
	return join(b.cachedRows(), b.coldRows(), b.runnerRows(), b.transferRows(), b.archiveRows(), b.listingRows(), b.removalRows(), b.hugeRows(), b.whyRows(), b.diffRows(), b.exploreRows(), b.serveRows())
}

func join(lists ...[]row) []row {
	var all []row
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// building is the command of a row that builds.
func (b *bench) building(j job) func(engine) (*exec.Cmd, error) {
	return func(e engine) (*exec.Cmd, error) { return e.build(j), nil }
}
