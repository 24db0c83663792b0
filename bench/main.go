//go:build e2e

// Command bench measures mica beside its peers in one run on one machine: the reference BuildKit, the Docker Engine, Buildah
// and crane; and how mica's own costs grow. It needs root. Times are medians of runs after a warm-up, mica and the peers
// taking turns; ratios are what counts.
//
//	go run -tags e2e ./bench [-runs 5] [-warm=false] [-far 2] [-only REGEXP] [-with REGEXP] [-quick] [-huge] [-json FILE] [-page FILE]
//	go run -tags e2e ./bench -draw FILE.json -page FILE
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
	"syscall"
	"time"

	"github.com/micabuild/mica/test/rig"
)

// options is what the command line says.
type options struct {
	runs        int
	warm        bool
	only, with  *regexp.Regexp
	quick, huge bool
	budget      time.Duration // of a row: when it is used up, no further round is begun
	far         float64       // a peer that takes so many times as long as the best peer is measured once; 0: all are measured alike
	mica        string        // the binary under test
	json, draw  string
	page        string
}

func main() {
	if len(os.Args) > 3 && os.Args[1] == screenMode {
		if err := runOnScreen(os.Args[2], os.Args[3:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, parse())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse() *options {
	o := &options{}
	only := flag.String("only", "", "measure the rows and curves whose names match this regular expression")
	with := flag.String("with", "", "beside mica, measure the peers whose names match this regular expression")
	flag.IntVar(&o.runs, "runs", 5, "runs of each row, after one that warms up")
	flag.BoolVar(&o.warm, "warm", true, "warm up before the runs that count")
	flag.DurationVar(&o.budget, "budget", 0, "begin no further round of a row that has taken so long; if that is the one that warms up, it counts (0: no limit)")
	flag.Float64Var(&o.far, "far", 0, "measure a peer no further that took so many times as long as the best peer in the first run that counts (0: measure all alike)")
	flag.BoolVar(&o.quick, "quick", false, "small workloads, one run and no warm-up: to see that everything works")
	flag.BoolVar(&o.huge, "huge", false, "also layers of up to 20 GiB")
	flag.StringVar(&o.mica, "mica", filepath.Join(rig.Top(), "bin", "mica"), "the mica that is measured")
	flag.StringVar(&o.json, "json", "", "write the results to this file")
	flag.StringVar(&o.page, "page", "", "write a page about the results to this file")
	flag.StringVar(&o.draw, "draw", "", "measure nothing: write the page (-page) of the results in this file")
	flag.Parse()
	if o.far != 0 && o.far <= 1 {
		fmt.Fprintln(os.Stderr, "bench: -far is more than 1, or 0")
		os.Exit(2)
	}
	o.only, o.with = regexp.MustCompile(*only), regexp.MustCompile(*with)
	if o.quick {
		o.runs, o.warm = 1, false
	}
	return o
}

func run(ctx context.Context, o *options) error {
	if o.draw != "" {
		r, err := readResults(o.draw)
		if err != nil {
			return err
		}
		return writePage(r, o.page)
	}
	r, err := measureAll(ctx, o)
	if r == nil {
		return err
	}
	printTable(os.Stdout, r)
	if o.page != "" {
		err = errors.Join(err, writePage(r, o.page))
	}
	return err
}

// measureAll measures the rows, then the curves, and saves the results after each.
func measureAll(ctx context.Context, o *options) (r *results, err error) {
	dir, err := os.MkdirTemp("", "mica-bench-")
	if err != nil {
		return nil, err
	}
	b := &bench{options: o, dir: dir, engines: map[string]engine{}}
	defer func() { err = errors.Join(err, b.close(), os.RemoveAll(dir)) }()
	if err := b.start(); err != nil {
		return nil, err
	}
	r = b.results()
	var failed []error
	for _, w := range b.rows() {
		if !o.only.MatchString(w.name) {
			continue
		}
		result := b.measure(ctx, w)
		if ctx.Err() != nil {
			return r, ctx.Err()
		}
		failed = append(failed, result.err())
		r.Rows = append(r.Rows, result)
		printProgress(os.Stderr, result)
		if err := r.save(o.json); err != nil {
			return r, err
		}
	}
	for _, c := range b.curves() {
		if !o.only.MatchString(c.name) {
			continue
		}
		result, err := b.grow(ctx, c)
		failed = append(failed, err)
		if result == nil {
			continue
		}
		r.Curves = append(r.Curves, *result)
		if err := r.save(o.json); err != nil {
			return r, err
		}
	}
	return r, errors.Join(failed...)
}
