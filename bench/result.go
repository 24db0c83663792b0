//go:build e2e

package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/micabuild/mica/test/rig"
)

// results is what one run of the benchmark found: the content of the JSON file.
type results struct {
	Date     string          `json:"date"`
	Machine  machine         `json:"machine"`
	Versions map[kind]string `json:"versions"`
	Runs     int             `json:"runs"`
	Warm     bool            `json:"warm"`             // after a run that warmed up
	Budget   float64         `json:"budget,omitempty"` // of a row, in seconds
	Far      float64         `json:"far,omitempty"`    // peers so many times behind the best were measured once
	Quick    bool            `json:"quick,omitempty"`  // of small workloads: the numbers say nothing
	Rows     []*rowResult    `json:"rows"`
	Curves   []curveResult   `json:"curves,omitempty"`
}

// rowResult is what was found of a row.
type rowResult struct {
	Group   string           `json:"group"`
	Name    string           `json:"name"`
	Note    string           `json:"note,omitempty"`
	Target  target           `json:"target"`
	Of      kind             `json:"of,omitempty"`    // whose time is compared, if not mica's
	Limit   int64            `json:"limit,omitempty"` // of its memory, if not memoryTarget
	Times   map[kind]*sample `json:"times"`
	Ratio   float64          `json:"ratio,omitempty"` // of its median to the best peer's
	Best    kind             `json:"best,omitempty"`  // that peer
	Memory  map[kind]int64   `json:"memory"`          // peak, in bytes
	Disk    map[kind]int64   `json:"disk,omitempty"`  // of the whole store after a run, in bytes
	Content int64            `json:"content,omitempty"`
	Failed  map[kind]string  `json:"failed,omitempty"`
}

// sample is times of one thing, in seconds.
type sample struct {
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	All    []float64 `json:"all"`
}

func (s *sample) add(seconds float64) {
	s.All = append(s.All, seconds)
	sorted := slices.Sorted(slices.Values(s.All))
	s.Median, s.Min, s.Max = sorted[len(sorted)/2], sorted[0], sorted[len(sorted)-1]
	if n := len(sorted); n%2 == 0 {
		s.Median = (sorted[n/2-1] + sorted[n/2]) / 2
	}
}

func newRowResult(w row) *rowResult {
	return &rowResult{
		Group: w.group, Name: w.name, Note: w.note, Target: w.target, Content: w.content, Of: w.of, Limit: w.memory,
		Times: map[kind]*sample{}, Memory: map[kind]int64{}, Disk: map[kind]int64{}, Failed: map[kind]string{},
	}
}

// add adds a run; of one that warms up, only what is no time.
func (r *rowResult) add(k kind, m measurement, timed bool) {
	r.Memory[k] = max(r.Memory[k], m.memory)
	if m.disk > 0 {
		r.Disk[k] = m.disk
	}
	if !timed {
		return
	}
	if r.Times[k] == nil {
		r.Times[k] = &sample{}
	}
	r.Times[k].add(m.seconds)
}

// subject is who is compared with the peers.
func (r *rowResult) subject() kind { return cmp.Or(r.Of, kindMica) }

// limit is what the subject may have in memory.
func (r *rowResult) limit() int64 { return cmp.Or(r.Limit, memoryTarget) }

// finish compares the subject with the best peer.
func (r *rowResult) finish() *rowResult {
	best := 0.0
	for _, k := range kinds {
		if s := r.Times[k]; s != nil && isPeer(k) && (best == 0 || s.Median < best) {
			best, r.Best = s.Median, k
		}
	}
	if s := r.Times[r.subject()]; s != nil && best > 0 {
		r.Ratio = s.Median / best
	}
	return r
}

// err says who failed; the reasons were printed with the row.
func (r *rowResult) err() error {
	var errs []error
	for k := range r.Failed {
		errs = append(errs, fmt.Errorf("%s failed at: %s", k, r.Name))
	}
	return errors.Join(errs...)
}

// reached says whether every target of time is met; the second value is false where there is none, or no measurement.
func (r *rowResult) reached() (yes, asked bool) {
	s := r.Times[r.subject()]
	if s == nil || r.Target == (target{}) || r.Target.Ratio > 0 && r.Ratio == 0 {
		return false, false
	}
	return (r.Target.Ratio == 0 || r.Ratio <= r.Target.Ratio) && (r.Target.Seconds == 0 || s.Median <= r.Target.Seconds), true
}

// diskReached says whether mica's store is as small as it is to be.
func (r *rowResult) diskReached() (yes, asked bool) {
	asked = r.Content > 0 && r.Disk[kindMica] > 0
	return asked && float64(r.Disk[kindMica]) <= diskTarget*float64(r.Content), asked
}

// memoryReached says whether the subject's peak memory is as small as it is to be.
func (r *rowResult) memoryReached() (yes, asked bool) {
	used := r.Memory[r.subject()]
	return used <= r.limit() && used > 0, used > 0
}

// results begins with what is known of the machine and of those who are compared.
func (b *bench) results() *results {
	first := func(cmd *exec.Cmd, format string) string {
		out, _ := cmd.Output()
		var version string
		_, _ = fmt.Sscanf(string(out), format, &version)
		return strings.Trim(version, ",")
	}
	peer := func(name string) string { return b.peers + "/" + name }
	return &results{
		Date: time.Now().UTC().Format(time.DateOnly), Machine: thisMachine(b.dir), Runs: b.runs, Warm: b.warm, Budget: b.budget.Seconds(), Far: b.far, Quick: b.quick,
		Versions: map[kind]string{
			kindMica:     first(exec.Command(b.micaPath, "version", "-f", "{{.Client.Version}}"), "%s"),
			kindBuildKit: first(exec.Command(peer("buildkitd"), "--version"), "buildkitd github.com/moby/buildkit %s"),
			kindDocker:   first(exec.Command("dockerd", "--version"), "Docker version %s"),
			kindDocker29: first(exec.Command(rig.Dockerd29(), "--version"), "Docker version %s"),
			kindBuildah:  first(exec.Command(b.buildahPath, "--version"), "buildah version %s"),
			kindCrane:    moduleVersion(peer("crane"), "github.com/google/go-containerregistry"),
		},
	}
}

func (r *results) save(file string) error {
	if file == "" {
		return nil
	}
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}

func readResults(file string) (*results, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r := &results{}
	return r, json.Unmarshal(data, r)
}
