//go:build e2e

package main

import (
	"os/exec"

	"github.com/micabuild/mica/test/rig"
)

// buildkit is a buildkitd. It keeps no names: its images are those of the registry that the benchmark pulls from. Or it is mica serve, which has
// them in its store.
type buildkit struct {
	*rig.BuildKit
	of      kind
	root    string
	pid     int
	stop    func() error
	origins map[string]string // of images, by name, with digests: so that nobody asks the registry again
}

func (b *bench) newBuildKit(dir string) (engine, error) {
	server, err := rig.StartBuildKit(dir)
	if err != nil {
		return nil, err
	}
	e := &buildkit{server, kindBuildKit, dir, server.Pid(), server.Stop, b.origins}
	if err := all(e.build(job{context: b.context("prime"), tag: "prime"})); err != nil {
		_ = e.close()
		return nil, err
	}
	return e, nil
}

func (e *buildkit) kind() kind                       { return e.of }
func (e *buildkit) dir() string                      { return e.root }
func (e *buildkit) daemon() int                      { return e.pid }
func (e *buildkit) command(args ...string) *exec.Cmd { return e.Command(args...) }
func (e *buildkit) close() error                     { return e.stop() }

// build makes an image in the daemon's content store, its layers as plain tars, as mica's and Docker's are; or pushes one,
// with the compression that every push has.
func (e *buildkit) build(j job) *exec.Cmd {
	output := "type=image,compression=uncompressed,name=" + j.tag
	if j.push != "" {
		output = "type=image,push=true,name=" + j.push
	}
	return e.buildTo(j, output)
}

// buildTo is a build with an output, or with none: its result stays in the cache.
func (e *buildkit) buildTo(j job, output string) *exec.Cmd {
	args := []string{
		"build", "--progress", "quiet", "--frontend", "dockerfile.v0", "--local", "context=" + j.context, "--local", "dockerfile=" + j.context,
	}
	if output != "" {
		args = append(args, "--output", output)
	}
	for _, name := range append([]string{"base"}, j.images...) {
		if from := e.origins[name]; from != "" {
			args = append(args, "--opt", "context:"+name+"=docker-image://"+from)
		}
	}
	if j.cache != "" && j.fill {
		args = append(args, "--export-cache", j.cache)
	} else if j.cache != "" {
		args = append(args, "--import-cache", j.cache)
	}
	if j.noCache {
		args = append(args, "--no-cache")
	}
	if j.file != "" {
		args = append(args, "--opt", "filename="+j.file)
	}
	if j.round != "" {
		args = append(args, "--opt", "build-arg:ROUND="+j.round)
	}
	return e.Command(args...)
}
