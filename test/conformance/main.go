// Conformance runs BuildKit's own integration suites, from its module, against mica as one more worker of them, or against buildkitd.
// Nothing of BuildKit's is in this repository: the suites are compiled in a copy of the module, to which the worker is added.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// A suite is a package of BuildKit with a front end, if its tests have one.
type suite struct {
	name string
	// dir is the package's directory in the module.
	dir string
	// env is added to the environment; $IMAGES is the directory of the images.
	env []string
}

var suites = []suite{
	{name: "client", dir: "client"},
	{name: "dockerfile/builtin", dir: "frontend/dockerfile", env: []string{"FRONTEND_BUILTIN_ONLY=1"}},
	{name: "dockerfile/client", dir: "frontend/dockerfile", env: []string{"FRONTEND_CLIENT_ONLY=1"}},
	{name: "dockerfile/gateway", dir: "frontend/dockerfile", env: []string{"FRONTEND_GATEWAY_ONLY=local:$IMAGES/frontend.tar"}},
}

// binary is the name of the compiled package.
func (s suite) binary() string { return filepath.Base(s.dir) + ".test" }

// everything is the pattern of all tests.
const everything = ".*"

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	worker := flag.String("worker", "mica", "`worker` that is tested: mica, or oci, which is buildkitd")
	only := flag.String("suite", "", "run the suites whose name matches this `regexp`")
	tests := flag.String("run", everything, "run the tests whose name matches this `regexp`, such as TestCopy")
	parted := flag.Bool("part", false, "run the tests of part.txt")
	parallel := flag.Int("parallel", 2, "tests that run at once")
	limit := flag.Duration("timeout", 30*time.Minute, "time that a suite may take")
	flag.Parse()
	selected, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	top, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	rig, err := prepare(ctx, top)
	if err != nil {
		return err
	}
	known, err := readKnown("mica.txt", "buildkitd.txt")
	if err != nil {
		return err
	}
	part, err := readPart("part.txt")
	if err != nil {
		return err
	}
	failed := false
	for _, s := range suites {
		if !selected.MatchString(s.name) || *parted && len(part[s.name]) == 0 {
			continue
		}
		opt := options{worker: *worker, tests: *tests, parallel: *parallel, limit: *limit}
		if *parted {
			opt.tests = part.pattern(s.name)
		}
		results, err := rig.test(ctx, s, opt)
		if err != nil {
			return err
		}
		report := compare(s.name, *worker, results, known)
		if *parted {
			report.missing = part.missing(s.name, results)
		}
		fmt.Print(report)
		failed = failed || report.failed()
	}
	if failed {
		return errors.New("the results are not those of mica.txt and buildkitd.txt")
	}
	return nil
}

// matrix are the names of the variants of a test; other parts are subtests.
var matrix = regexp.MustCompile(`^(secmode|netmode|security\.insecure|network\.host|env)=`)

// unit returns the name of the test that runs in one sandbox, without worker and front end. It is "" for what is above one; a subtest
// is not whole.
func unit(name, worker string) (test string, whole bool) {
	test, rest, found := strings.Cut(name, "/worker="+worker)
	if !found {
		return "", false
	}
	for n, part := range strings.Split(rest, "/") {
		if n == 0 { // empty, or the number of one of several tests of this name
			test += part
			continue
		}
		if strings.HasPrefix(part, "frontend=") {
			continue
		}
		if !matrix.MatchString(part) {
			return test, false
		}
		test += "/" + part
	}
	return test, true
}
