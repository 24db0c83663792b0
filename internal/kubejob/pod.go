package kubejob

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// pod is what is read of a pod.
type pod struct {
	Metadata struct{ Name, ResourceVersion string }
	Status   struct {
		Phase, Reason, Message string
		Conditions             []struct{ Type, Status, Reason, Message string }
		ContainerStatuses      []struct {
			Name  string
			Ready bool
			State struct {
				Waiting    *struct{ Reason, Message string }
				Terminated *struct {
					Reason, Message string
					ExitCode        int
				}
			}
		}
	}
}

// final are reasons of a container that waits for what will not come.
var final = []string{"InvalidImageName", "ErrImageNeverPull", "ImagePullBackOff", "CreateContainerConfigError", "CreateContainerError", "RunContainerError"}

// state returns whether the container of mica serves, what it waits for, and an error if it will never serve.
func (p *pod) state() (ready bool, waits string, err error) {
	for _, c := range p.Status.ContainerStatuses {
		if c.Name != containerName {
			continue
		}
		switch {
		case c.Ready:
			return true, "", nil
		case c.State.Terminated != nil:
			return false, "", fmt.Errorf("pod %s has ended with exit code %d: %s %s", p.Metadata.Name, c.State.Terminated.ExitCode, c.State.Terminated.Reason, c.State.Terminated.Message)
		case c.State.Waiting != nil && slices.Contains(final, c.State.Waiting.Reason):
			return false, "", fmt.Errorf("pod %s: %s: %s", p.Metadata.Name, c.State.Waiting.Reason, c.State.Waiting.Message)
		case c.State.Waiting != nil:
			waits = c.State.Waiting.Reason
		}
	}
	if p.Status.Phase == "Failed" || p.Status.Phase == "Succeeded" {
		return false, "", fmt.Errorf("pod %s has ended: %s %s", p.Metadata.Name, p.Status.Reason, p.Status.Message)
	}
	for _, c := range p.Status.Conditions {
		if c.Type == "PodScheduled" && c.Status == "False" {
			waits = c.Reason + ": " + c.Message
		}
	}
	return false, waits, nil
}

// watchAgain is how long to wait before a watch that has ended is begun again.
const watchAgain = time.Second

// errTimeout ends the wait for a pod.
var errTimeout = errors.New("it does not run")

// waitForPod returns the name of the pod of a Job when it serves.
func (c *cluster) waitForPod(ctx context.Context, job string, timeout time.Duration) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errTimeout)
	defer cancel()
	waits := "no pod was created"
	for {
		name, err := c.watchPod(ctx, job, &waits)
		switch {
		case name != "" && err == nil:
			return name, nil
		case errors.Is(context.Cause(ctx), errTimeout):
			return "", fmt.Errorf("kubernetes: the pod of Job %s does not run after %s: %s", job, timeout, c.why(job, waits))
		case err != nil:
			return "", err
		}
		select { // a server that ends each watch at once is not asked without a pause
		case <-time.After(watchAgain):
		case <-ctx.Done():
		}
	}
}

// watchPod reads the states of the pod of a Job until it serves. It returns "" if the API server ends the watch, which it does from time to time.
func (c *cluster) watchPod(ctx context.Context, job string, waits *string) (string, error) {
	q := url.Values{"labelSelector": {"batch.kubernetes.io/job-name=" + job}, "watch": {"true"}}
	resp, err := c.send(ctx, http.MethodGet, c.pods()+"?"+q.Encode(), nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	for dec := json.NewDecoder(resp.Body); ; {
		var event struct {
			Type   string
			Object pod
		}
		if err := dec.Decode(&event); err != nil {
			return "", nil // the watch has ended
		}
		switch event.Type {
		case "ADDED", "MODIFIED":
		case "DELETED":
			return "", fmt.Errorf("kubernetes: pod %s was deleted", event.Object.Metadata.Name)
		case "ERROR":
			return "", nil
		default:
			continue
		}
		ready, what, err := event.Object.state()
		if err != nil {
			return "", fmt.Errorf("kubernetes: %w", err)
		}
		if ready {
			return event.Object.Metadata.Name, nil
		}
		if what != "" {
			*waits = what
		}
	}
}

// why returns the last event of a Job, or else what its pod waits for.
func (c *cluster) why(job, waits string) string {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	raw, err := c.do(ctx, http.MethodGet, c.events()+"?"+url.Values{"fieldSelector": {"involvedObject.name=" + job}}.Encode(), nil)
	var events struct {
		Items []struct{ Reason, Message string }
	}
	if err != nil || json.Unmarshal(raw, &events) != nil {
		return waits
	}
	for _, e := range slices.Backward(events.Items) {
		if e.Reason == "FailedCreate" {
			return e.Message
		}
	}
	return waits
}
