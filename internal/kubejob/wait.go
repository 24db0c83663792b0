package kubejob

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"sync"
	"time"
)

// watchAgain is how long to wait before a watch that has ended is begun again.
const watchAgain = time.Second

// errTimeout ends the wait for a pod.
var errTimeout = errors.New("it does not run")

// waiting is what a pod waits for.
type waiting struct {
	mu        sync.Mutex
	pod, text string // the name is "" before there is a pod
}

func (w *waiting) set(pod, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pod = pod
	if text != "" {
		w.text = text
	}
}

func (w *waiting) get() (pod, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pod, w.text
}

// waitForPod returns the name of the pod of a Job when it serves. Without a timeout it also ends for a pod that no node can run.
func (c *cluster) waitForPod(ctx context.Context, job string, timeout time.Duration) (string, error) {
	patient := timeout > 0
	if !patient {
		timeout = startTime
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errTimeout)
	defer cancel()
	ctx, fail := context.WithCancelCause(ctx)
	waits := &waiting{text: "no pod was created"}
	var reading sync.WaitGroup
	reading.Go(func() { c.readEvents(ctx, waits, patient, fail) })
	defer reading.Wait()
	defer fail(nil)
	for {
		name, err := c.watchPod(ctx, job, waits)
		cause := context.Cause(ctx)
		var ends *hopelessError
		switch {
		case name != "" && err == nil:
			return name, nil
		case errors.Is(cause, errTimeout):
			return "", fmt.Errorf("kubernetes: the pod of Job %s does not run after %s: %s", job, timeout, c.why(job, waits))
		case errors.As(cause, &ends):
			return "", ends.err
		case err != nil:
			return "", err
		}
		select { // a server that ends each watch at once is not asked without a pause
		case <-time.After(watchAgain + rand.N(watchAgain)): //nolint:gosec // nobody gains by guessing it
		case <-ctx.Done():
		}
	}
}

// hopelessError ends the wait for a pod whose events say that it will not run.
type hopelessError struct{ err error }

func (e *hopelessError) Error() string { return e.err.Error() }

// unsupported is what nodes say that cannot give a pod a user namespace, or a /proc without masks: kubelets, container runtimes and kernels.
var unsupported = regexp.MustCompile(`(?i)user ?namespace|userns|id-?mapp|mount_setattr|procmount`)

// noNode is what the scheduler says when the selector of a pod fits no node.
var noNode = regexp.MustCompile(`\b0/(\d+) nodes are available: (\d+) node\(s\) didn't match Pod's node affinity/selector`)

// fitsNoNode reports whether the selector of a pod, which has the platform, fits none of the cluster's nodes.
func fitsNoNode(waits string) bool {
	m := noNode.FindStringSubmatch(waits)
	return m != nil && m[1] == m[2]
}

// scaling are reasons of events by which autoscalers announce a node for a pod.
var scaling = []string{"TriggeredScaleUp", "Nominated"}

// readEvents reads the events of a pod that is slow to serve, at longer and longer intervals, and fails when they say that it will not. A patient
// one waits for nodes that the cluster does not have yet.
func (c *cluster) readEvents(ctx context.Context, waits *waiting, patient bool, fail context.CancelCauseFunc) {
	for pause := c.slow; ; pause *= 2 {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		pod, text := waits.get()
		if pod == "" {
			continue
		}
		events, err := c.eventsOf(ctx, pod)
		if err != nil {
			return // they may not be read: the timeout ends the wait
		}
		for _, e := range slices.Backward(events) {
			if e.Reason == failedSandbox && unsupported.MatchString(e.Message) {
				fail(&hopelessError{&isolationError{fmt.Errorf("kubernetes: pod %s: %s", pod, e.Message)}})
				return
			}
		}
		comes := slices.ContainsFunc(events, func(e event) bool { return slices.Contains(scaling, e.Reason) })
		if !patient && !comes && pause >= noNodeAfter*c.slow && fitsNoNode(text) {
			fail(&hopelessError{fmt.Errorf("kubernetes: no node can run pod %s: %s: set timeout in --on to wait for a node that is added later", pod, text)})
			return
		}
	}
}

const (
	// slowStart is how long a pod may take to start before its events are read.
	slowStart = 10 * time.Second
	// noNodeAfter times slowStart is the pause after which a pod is given up that fits no node: half a minute is left to autoscalers before it.
	noNodeAfter = 4
	// failedSandbox is the reason of the event of a pod that its node cannot start. The node tries it again for ever.
	failedSandbox = "FailedCreatePodSandBox"
)

// event is what is read of an event.
type event struct{ Reason, Message string }

// eventsOf returns the events of an object, the oldest first.
func (c *cluster) eventsOf(ctx context.Context, name string) ([]event, error) {
	raw, err := c.do(ctx, http.MethodGet, c.events()+"?"+url.Values{"fieldSelector": {"involvedObject.name=" + name}}.Encode(), nil)
	if err != nil {
		return nil, err
	}
	var events struct{ Items []event }
	if err := json.Unmarshal(raw, &events); err != nil {
		return nil, fmt.Errorf("kubernetes: events: %w", err)
	}
	return events.Items, nil
}

// whyTime is how long the events of a Job that has failed are waited for.
const whyTime = 10 * time.Second

// why returns the last failure among the events of a Job and its pod, or else what the pod waits for.
func (c *cluster) why(job string, waits *waiting) string {
	ctx, cancel := context.WithTimeout(context.Background(), whyTime)
	defer cancel()
	pod, text := waits.get()
	of := map[string]string{job: "FailedCreate"}
	if pod != "" {
		of = map[string]string{pod: failedSandbox}
	}
	for name, reason := range of {
		events, err := c.eventsOf(ctx, name)
		if err != nil {
			return text
		}
		for _, e := range slices.Backward(events) {
			if e.Reason == reason {
				return e.Message
			}
		}
	}
	return text
}
