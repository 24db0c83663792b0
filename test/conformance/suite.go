package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

type options struct {
	worker, tests string
	parallel      int
	limit         time.Duration
}

// An outcome is that of one test in one sandbox.
type outcome string

const (
	passed     outcome = "pass"
	failed     outcome = "fail"
	skipped    outcome = "skip"
	unfinished outcome = "unfinished" // the suite ended before the test
)

// test runs a suite. What it prints goes to bin/conformance/SUITE-WORKER.log.
func (r *rig) test(ctx context.Context, s suite, opt options) (*results, error) {
	temp, err := os.MkdirTemp("", "bk")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(temp) //nolint:errcheck // the stores of buildkitd may be mounted yet
	name := filepath.Join(r.dir, strings.ReplaceAll(s.name, "/", "-")+"-"+opt.worker+".log")
	log, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	defer log.Close() //nolint:errcheck // read by people

	cmd := exec.CommandContext(ctx, filepath.Join(r.dir, s.binary()),
		"-test.v=test2json", "-test.timeout="+opt.limit.String(), "-test.parallel="+strconv.Itoa(opt.parallel),
		"-test.run=.*/"+opt.tests+"/worker="+opt.worker)
	cmd.Dir = filepath.Join(r.source, s.dir)
	cmd.Env = os.Environ()
	for _, v := range s.env {
		cmd.Env = append(cmd.Env, os.Expand(v, func(string) string { return r.mirror() }))
	}
	cmd.Env = append(cmd.Env,
		"GOMAXPROCS="+strconv.Itoa(opt.parallel), // the suites run as many sandboxes
		"TMPDIR="+temp,
		"PATH="+filepath.Join(r.dir, "path")+":"+filepath.Join(r.top, "bin", "peers")+":"+os.Getenv("PATH"),
		"BUILDKIT_REGISTRY_MIRROR_DIR="+r.mirror(),
		r.signFixtures(),
		"MICA_CONFORMANCE_BINARY="+filepath.Join(r.top, "bin", "mica"))
	read, write := io.Pipe()
	cmd.Stdout = io.MultiWriter(log, write)
	cmd.Stderr = cmd.Stdout
	convert := exec.CommandContext(ctx, "go", "tool", "test2json")
	convert.Stdin, convert.Stderr = read, os.Stderr
	events, err := convert.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := convert.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() {
		ended <- cmd.Run()
		_ = write.Close()
	}()
	results, err := outcomes(events, opt.worker)
	var exit *exec.ExitError
	if err := errors.Join(err, convert.Wait()); err != nil {
		return nil, err
	}
	if err := <-ended; err != nil && !errors.As(err, &exit) {
		return nil, err
	}
	if len(results.outcome) == 0 && opt.tests == everything {
		return nil, fmt.Errorf("%s: no test of the worker %s ran; see %s", s.name, opt.worker, name)
	}
	return results, ctx.Err()
}

// results are what the tests of a suite came to.
type results struct {
	outcome map[string]outcome
	// output has the last lines that each test printed which did not pass.
	output map[string][]string
}

// outputLines are kept of a test.
const outputLines = 40

// outcomes reads the events of go tool test2json.
func outcomes(events io.Reader, worker string) (*results, error) {
	r := &results{outcome: map[string]outcome{}, output: map[string][]string{}}
	decoder := json.NewDecoder(events)
	for {
		var event struct{ Action, Test, Output string }
		if err := decoder.Decode(&event); errors.Is(err, io.EOF) {
			return r, nil
		} else if err != nil {
			return nil, err
		}
		if name, whole := unit(event.Test, worker); name != "" {
			r.add(name, whole, event.Action, event.Output)
		}
	}
}

func (r *results) add(name string, whole bool, action, output string) {
	switch result := outcome(action); {
	case action == "output":
		r.output[name] = append(r.output[name], strings.TrimRight(output, "\n"))
		if over := len(r.output[name]) - outputLines; over > 0 {
			r.output[name] = r.output[name][over:]
		}
	case whole && (result == passed || result == failed || result == skipped):
		r.outcome[name] = result
		if result != failed {
			delete(r.output, name)
		}
	case r.outcome[name] == "":
		r.outcome[name] = unfinished
	}
}
