package kubejob

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
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

// noImage are reasons of a container that waits for an image that will not come.
var noImage = []string{"InvalidImageName", "ErrImageNeverPull", "ImagePullBackOff"}

// notMade are reasons of a container that the node cannot start.
var notMade = []string{"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}

// isolationError is the error of a pod that was admitted and does not serve. One with another isolation may.
type isolationError struct{ err error }

func (e *isolationError) Error() string { return e.err.Error() }
func (e *isolationError) Unwrap() error { return e.err }

// errLost is the error of a pod that the cluster has taken away. Another one like it may serve.
var errLost = errors.New("the cluster has taken the pod away")

// lost reports whether the cluster has ended the pod for a reason of its own.
func (p *pod) lost() bool {
	for _, c := range p.Status.Conditions {
		if c.Type == "DisruptionTarget" && c.Status == "True" {
			return true
		}
	}
	return p.Status.Reason == "Evicted" || p.Status.Reason == "NodeLost"
}

// state returns whether the container of mica serves, what it waits for, and an error if it will never serve.
func (p *pod) state() (ready bool, waits string, err error) {
	if p.lost() {
		return false, "", fmt.Errorf("pod %s: %w: %s %s", p.Metadata.Name, errLost, p.Status.Reason, p.Status.Message)
	}
	for _, c := range p.Status.ContainerStatuses {
		if c.Name != containerName {
			continue
		}
		w, ended := c.State.Waiting, c.State.Terminated
		switch {
		case c.Ready:
			return true, "", nil
		case ended != nil:
			return false, "", &isolationError{fmt.Errorf("pod %s has ended with exit code %d: %s %s", p.Metadata.Name, ended.ExitCode, ended.Reason, ended.Message)}
		case w == nil:
		case slices.Contains(notMade, w.Reason):
			return false, "", &isolationError{fmt.Errorf("pod %s: %s: %s", p.Metadata.Name, w.Reason, w.Message)}
		case slices.Contains(noImage, w.Reason):
			return false, "", fmt.Errorf("pod %s: %s: %s", p.Metadata.Name, w.Reason, w.Message)
		default:
			waits = w.Reason
		}
	}
	if p.Status.Phase == "Failed" || p.Status.Phase == "Succeeded" {
		return false, "", &isolationError{fmt.Errorf("pod %s has ended: %s %s", p.Metadata.Name, p.Status.Reason, p.Status.Message)}
	}
	for _, c := range p.Status.Conditions {
		if c.Type == "PodScheduled" && c.Status == "False" {
			waits = c.Reason + ": " + c.Message
		}
	}
	return false, waits, nil
}

// watchPod reads the states of the pod of a Job until it serves. It returns "" if the API server ends the watch, which it does from time to time.
func (c *cluster) watchPod(ctx context.Context, job string, waits *waiting) (string, error) {
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
			return "", fmt.Errorf("kubernetes: pod %s was deleted: %w", event.Object.Metadata.Name, errLost)
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
		waits.set(event.Object.Metadata.Name, what)
	}
}
