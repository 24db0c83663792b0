//go:build e2e

package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"
)

// measure runs a row: once to warm up, then as often as the options say, everyone taking turns. Who fails is out of it, and,
// if asked for, who is far behind in the first round that counts. A row that has used up its budget ends after the round; the
// one that warms up counts if there is no other.
func (b *bench) measure(ctx context.Context, w row) *rowResult {
	r := newRowResult(w)
	warm, behind := map[kind]measurement{}, map[kind]bool{}
	used := 0.0 // seconds that were measured; what is prepared does not count
	first := 0
	if !b.warm {
		first = 1
	}
	for i := first; i <= b.runs; i++ {
		for _, k := range w.kinds {
			if ctx.Err() != nil {
				return r
			}
			if r.Failed[k] != "" || behind[k] || isPeer(k) && !b.with.MatchString(string(k)) {
				continue
			}
			m, err := b.one(w, k, i)
			if err != nil {
				r.Failed[k] = err.Error()
				continue
			}
			used += m.seconds
			r.add(k, m, i > 0)
			if i == 0 {
				warm[k] = m
			}
		}
		if i == 1 && b.far > 0 {
			behind = b.farBehind(r)
		}
		if b.budget > 0 && used > b.budget.Seconds() {
			break
		}
	}
	if len(r.Times) == 0 {
		for k, m := range warm {
			r.add(k, m, true)
		}
	}
	return r.finish()
}

// farBehind are the peers that took too many times as long as the best of them.
func (b *bench) farBehind(r *rowResult) map[kind]bool {
	behind := map[kind]bool{}
	for k, s := range r.Times {
		for other, best := range r.Times {
			if isPeer(k) && isPeer(other) && s.Median > b.far*best.Median {
				behind[k] = true
			}
		}
	}
	return behind
}

// isPeer tells what mica is compared with from mica itself.
func isPeer(k kind) bool { return k != kindMica && k != kindServe && k != kindBuildctl }

// measurement is what one run took.
type measurement struct {
	seconds      float64
	memory, disk int64
}

// one measures one run of one of them.
func (b *bench) one(w row, k kind, i int) (m measurement, err error) {
	e, done, err := b.engineFor(w, k)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, done()) }()
	if key := w.name + "/" + string(k); w.setup != nil && !b.ready[key] {
		b.ready[key] = true
		if err := w.setup(e); err != nil {
			return m, fmt.Errorf("set up: %w", err)
		}
	}
	if w.prepare != nil {
		if err := w.prepare(e); err != nil {
			return m, fmt.Errorf("prepare: %w", err)
		}
	}
	cmd, err := w.command(e)
	if err != nil {
		return m, err
	}
	m, err = b.time(e, cmd, i == 0 || !b.warm)
	if w.rest {
		time.Sleep(5 * time.Second)
		m.memory = statusField(fmt.Sprintf("/proc/%d", e.daemon()), "VmRSS:")
	}
	if err == nil && w.content > 0 {
		m.disk, err = diskUsage(e.dir())
	}
	return m, err
}

// engineFor is the engine of a run, and what to do with it afterwards.
func (b *bench) engineFor(w row, k kind) (engine, func() error, error) {
	if w.store != "" {
		e, err := b.shared(k, w.store)
		return e, func() error { return nil }, err
	}
	e, err := b.newEngine(k)
	if err != nil {
		return nil, nil, err
	}
	return e, func() error { return b.discard(e) }, nil
}

// time runs a command. What others left to be written to disk is written before, so that it does not slow this one.
func (b *bench) time(e engine, cmd *exec.Cmd, sample bool) (measurement, error) {
	syscall.Sync()
	resetPeak(e.daemon())
	watch := &sampler{path: b.micaPath}
	if sample && e.kind() == kindMica {
		watch.start()
	}
	began := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(began)
	m := measurement{seconds: took.Seconds(), memory: max(watch.stop(), peak(e.daemon()))}
	if err != nil {
		return m, fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok && e.daemon() == 0 {
		m.memory = max(m.memory, u.Maxrss<<10)
	}
	return m, nil
}
