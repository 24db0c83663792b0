//go:build e2e

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"time"
)

// kubelets are nodes whose kubelets run no containers: they report the states that a kubelet reports, and connect the exec of a pod to a server.
type kubelets struct {
	api   *api
	exec  *httptest.Server
	start time.Duration // that a container takes
	// serve starts the server of a pod. It returns the path of its socket, and what ends it.
	serve func(ctx context.Context, pod string) (socket string, stop func(), err error)

	mu   sync.Mutex
	pods map[string]*pod // by name
}

// pod is one that was bound to a node.
type pod struct {
	job     string
	bound   time.Time
	running time.Time // zero before that
	socket  string
	end     context.CancelFunc
	ended   chan struct{}
}

const (
	podsPerNode = 100
	// heartbeat is how often a node renews its lease.
	heartbeat = 10 * time.Second
)

// newKubelets registers nodes for a number of pods.
func newKubelets(ctx context.Context, a *api, builds int, k *kubelets) error {
	k.api, k.pods = a, map[string]*pod{}
	k.exec = httptest.NewTLSServer(http.HandlerFunc(k.serveExec))
	at, err := url.Parse(k.exec.URL)
	if err != nil {
		return err
	}
	for i := range builds/podsPerNode + 2 {
		if err := k.register(ctx, fmt.Sprintf("node%d", i), at); err != nil {
			return err
		}
	}
	go k.watch(ctx)
	return nil
}

// register creates a node and renews its lease.
func (k *kubelets) register(ctx context.Context, name string, at *url.URL) error {
	labels := object{"kubernetes.io/os": "linux", "kubernetes.io/arch": architecture, "kubernetes.io/hostname": name}
	node := object{"apiVersion": "v1", "kind": "Node", "metadata": object{"name": name, "labels": labels}}
	if err := k.api.send(ctx, http.MethodPost, "/api/v1/nodes", node, nil); err != nil {
		return err
	}
	has := object{"cpu": "1000", "memory": "4Ti", "ephemeral-storage": "4Ti", "pods": fmt.Sprint(podsPerNode)}
	status := object{"status": object{
		"capacity": has, "allocatable": has,
		"addresses":       []any{object{"type": "InternalIP", "address": at.Hostname()}},
		"daemonEndpoints": object{"kubeletEndpoint": object{"Port": json.Number(at.Port())}},
		"conditions":      []any{condition("Ready", true)},
	}}
	if err := k.api.send(ctx, http.MethodPatch, "/api/v1/nodes/"+name+"/status", status, nil); err != nil {
		return err
	}
	const leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
	lease := func() object {
		return object{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": object{"name": name}, "spec": object{
			"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"),
		}}
	}
	if err := k.api.send(ctx, http.MethodPost, leases, lease(), nil); err != nil {
		return err
	}
	go func() {
		for range ticks(ctx, heartbeat) {
			if err := k.api.send(ctx, http.MethodPatch, leases+"/"+name, lease(), nil); err != nil {
				warn(ctx, err)
			}
		}
	}()
	return nil
}

func condition(name string, holds bool) object {
	status := "False"
	if holds {
		status = "True"
	}
	now := time.Now().UTC().Format(time.RFC3339)
	return object{"type": name, "status": status, "reason": "Simulated", "lastTransitionTime": now}
}

// seenPod is what is read of a pod.
type seenPod struct {
	Metadata struct {
		Name, Namespace, UID, DeletionTimestamp string
		Labels                                  map[string]string
	}
}

// watch follows the pods of all nodes.
func (k *kubelets) watch(ctx context.Context) {
	for ctx.Err() == nil {
		body, err := k.api.open(ctx, http.MethodGet, "/api/v1/pods?watch=true&fieldSelector=spec.nodeName!%3D", nil)
		if err != nil {
			warn(ctx, err)
			wait(ctx, time.Second)
			continue
		}
		for dec := json.NewDecoder(body); ; {
			var event struct {
				Type   string
				Object seenPod
			}
			if dec.Decode(&event) != nil || event.Type == "ERROR" {
				break
			}
			k.see(ctx, event.Type, &event.Object)
		}
		_ = body.Close()
	}
}

// see begins a pod that is new and ends one that is deleted.
func (k *kubelets) see(ctx context.Context, event string, seen *seenPod) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.pods[seen.Metadata.Name]
	switch {
	case p == nil && event != "DELETED" && seen.Metadata.DeletionTimestamp == "":
		ctx, end := context.WithCancel(ctx)
		p := &pod{job: seen.Metadata.Labels["batch.kubernetes.io/job-name"], bound: time.Now(), end: end, ended: make(chan struct{})}
		k.pods[seen.Metadata.Name] = p
		go k.run(ctx, p, seen)
	case p != nil && (event == "DELETED" || seen.Metadata.DeletionTimestamp != ""):
		p.end()
	}
}

// run is the life of a pod.
func (k *kubelets) run(ctx context.Context, p *pod, seen *seenPod) {
	path := "/api/v1/namespaces/" + seen.Metadata.Namespace + "/pods/" + seen.Metadata.Name
	report := func(ctx context.Context, phase string, state object, ready bool) {
		now := time.Now().UTC().Format(time.RFC3339)
		status := object{"status": object{
			"phase": phase, "hostIP": "127.0.0.1", "podIP": "127.0.0.1", "startTime": now,
			"conditions": []any{condition("Initialized", true), condition("ContainersReady", ready), condition("Ready", ready)},
			"containerStatuses": []any{object{
				"name": "mica", "image": "mica", "imageID": "mica", "restartCount": 0, "ready": ready, "started": ready, "state": state,
			}},
		}}
		if err := k.api.send(ctx, http.MethodPatch, path+"/status", status, nil); err != nil {
			warn(ctx, err)
		}
	}
	defer close(p.ended)
	report(ctx, "Pending", object{"waiting": object{"reason": "ContainerCreating"}}, false)
	wait(ctx, k.start)
	socket, stop, err := k.serve(ctx, seen.Metadata.Name)
	if err != nil {
		warn(ctx, err)
		return
	}
	k.mu.Lock()
	p.socket = socket
	k.mu.Unlock()
	running := object{"running": object{"startedAt": time.Now().UTC().Format(time.RFC3339)}}
	report(ctx, "Running", running, false) // its startup probe has not run yet
	report(ctx, "Running", running, true)
	k.mu.Lock()
	p.running = time.Now()
	k.mu.Unlock()
	<-ctx.Done()
	stop()
	at := object{"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": object{"uid": seen.Metadata.UID}}
	if err := k.api.send(context.WithoutCancel(ctx), http.MethodDelete, path, at, nil); err != nil {
		warn(context.WithoutCancel(ctx), err)
	}
}

// counts are how many pods were seen and how many of them run.
func (k *kubelets) counts() (seen, running int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.pods {
		select {
		case <-p.ended:
		default:
			if !p.running.IsZero() {
				running++
			}
		}
	}
	return len(k.pods), running
}
