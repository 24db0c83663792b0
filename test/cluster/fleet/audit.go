//go:build e2e

package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// auditPolicy lets the API server log each request once, when it has ended.
const auditPolicy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived, ResponseStarted]\nrules: [{level: Metadata}]\n"

// request is what is read of a request that the API server has logged.
type request struct {
	Verb, RequestURI, UserAgent string
	User                        struct{ Username string }
	ObjectRef                   struct{ Resource, Subresource, Name string }
	ResponseStatus              struct{ Code int }
	RequestReceivedTimestamp    time.Time
	StageTimestamp              time.Time
}

func (r *request) took() time.Duration { return r.StageTimestamp.Sub(r.RequestReceivedTimestamp) }

// what is the kind of a request.
func (r *request) what() string {
	name := r.Verb + " " + r.ObjectRef.Resource
	if r.ObjectRef.Subresource != "" {
		name += "/" + r.ObjectRef.Subresource
	}
	if strings.Contains(r.RequestURI, "dryRun=") {
		name += " (dry run)"
	}
	return name
}

// readAudit calls seen for each request that an API server has logged.
func readAudit(path string, seen func(*request)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		seen(&r)
	}
	return lines.Err()
}

// load is what the builds have asked of an API server.
type load struct {
	clients map[string]int // requests of mica, by kind
	refused map[string]int // those with an error, by kind and status
	others  map[string]int // requests that change something, by user
	dryRun  []time.Duration
	create  []time.Duration
	created map[string]time.Time // when the creation of a Job was asked for, by name
}

// readLoad reads the log of an API server from a time on.
func readLoad(path string, from time.Time) (*load, error) {
	l := &load{clients: map[string]int{}, refused: map[string]int{}, others: map[string]int{}, created: map[string]time.Time{}}
	return l, readAudit(path, func(r *request) {
		switch {
		case r.RequestReceivedTimestamp.Before(from):
		case r.UserAgent == "mica":
			l.client(r)
		case slices.Contains([]string{"create", "update", "patch", "delete"}, r.Verb):
			l.others[r.User.Username]++
		}
	})
}

func (l *load) client(r *request) {
	what := r.what()
	l.clients[what]++
	if r.ResponseStatus.Code >= 400 {
		l.refused[fmt.Sprintf("%s: %d", what, r.ResponseStatus.Code)]++
		return
	}
	switch what {
	case "create pods (dry run)":
		l.dryRun = append(l.dryRun, r.took())
	case "create jobs":
		l.create = append(l.create, r.took())
		l.created[r.ObjectRef.Name] = r.RequestReceivedTimestamp
	}
}

// spread is the median and the greatest of some times.
func spread(list []time.Duration) string {
	if len(list) == 0 {
		return "-"
	}
	slices.Sort(list)
	return short(list[len(list)/2]) + " / " + short(list[len(list)-1])
}

func short(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// counts writes numbers for each build, the greatest first.
func counts(all map[string]int, builds int) string {
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(all[b]-all[a], strings.Compare(a, b)) })
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %.2f", name, float64(all[name])/float64(builds))
	}
	return strings.Join(names, ", ")
}
