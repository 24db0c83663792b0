// Package kubejob runs mica serve in a Job of Kubernetes for as long as one client uses it. Nothing is resident in the cluster, and the client
// needs no more than to create and delete Jobs, and to list, watch and exec in pods.
package kubejob

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Options say where and how a Job runs.
type Options struct {
	// Context is one of the kubeconfig, "" for the current one. Namespace is "" for that of the context.
	Context, Namespace string
	// Image is one of mica's own.
	Image string
	// Isolation is that of mica's --isolation in the pod, which decides about the pod's rights; "" for the first that the cluster admits.
	Isolation string
	// Template is YAML that is merged into the Job, nil for nothing.
	Template []byte
	// Timeout is how long the pod has until it runs; 0 for 10 minutes.
	Timeout time.Duration
}

// Job is a Job whose pod serves.
type Job struct {
	c         *cluster
	name, pod string
	Isolation string // that was chosen
}

// startTime is the default of Options.Timeout.
const startTime = 10 * time.Minute

// Start creates a Job for a platform and waits until its pod runs. The caller closes it.
func Start(ctx context.Context, o Options, p ocispec.Platform) (_ *Job, err error) {
	c, err := connect(&o)
	if err != nil {
		return nil, err
	}
	patch, err := readTemplate(o.Template)
	if err != nil {
		return nil, err
	}
	spec, isolation, err := c.admitted(ctx, &o, p, patch)
	if err != nil {
		return nil, err
	}
	name, err := c.createJob(ctx, spec)
	if err != nil {
		return nil, err
	}
	j := &Job{c: c, name: name, Isolation: isolation}
	defer func() {
		if err != nil {
			err = errors.Join(err, j.Close(ctx))
		}
	}()
	timeout := o.Timeout
	if timeout == 0 {
		timeout = startTime
	}
	j.pod, err = c.waitForPod(ctx, name, timeout)
	return j, err
}

// connect reads the kubeconfig, as kubectl does, or the service account of a pod.
func connect(o *Options) (*cluster, error) {
	from := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		clientcmd.NewDefaultClientConfigLoadingRules(), &clientcmd.ConfigOverrides{CurrentContext: o.Context})
	config, err := from.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	namespace := o.Namespace
	if namespace == "" {
		if namespace, _, err = from.Namespace(); err != nil {
			return nil, fmt.Errorf("kubernetes: %w", err)
		}
	}
	config.UserAgent = "mica"
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	return &cluster{config: config, http: client, base: base, namespace: namespace}, nil
}

// admitted returns the Job of the first isolation whose pods the cluster admits.
func (c *cluster) admitted(ctx context.Context, o *Options, p ocispec.Platform, patch map[string]any) (spec map[string]any, isolation string, err error) {
	list := isolations
	if o.Isolation != "" {
		list = []string{o.Isolation}
	}
	var refused error
	for _, name := range list {
		if spec, err = newJob(o, name, p, patch); err != nil {
			return nil, "", err
		}
		err := c.tryPod(ctx, spec)
		if err == nil {
			return spec, name, nil
		}
		var status *StatusError
		if !errors.As(err, &status) || !status.refuses() {
			return nil, "", err
		}
		refused = fmt.Errorf("isolation %s: %w", name, err)
	}
	return nil, "", fmt.Errorf("the cluster admits no pod of mica in namespace %s: %w", c.namespace, refused)
}

// tryPod lets the API server check a pod of the Job, and makes none: a Job itself is always admitted.
func (c *cluster) tryPod(ctx context.Context, job map[string]any) error {
	template := at(job, "spec", "template")
	pod := map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": merge(map[string]any{"generateName": namePrefix}, at(template, "metadata")), "spec": template["spec"],
	}
	_, err := c.post(ctx, c.pods()+"?dryRun=All", pod)
	return err
}

func (c *cluster) createJob(ctx context.Context, job map[string]any) (string, error) {
	raw, err := c.post(ctx, c.jobs(), job)
	if err != nil {
		return "", err
	}
	var made struct{ Metadata struct{ Name string } }
	if err := json.Unmarshal(raw, &made); err != nil {
		return "", fmt.Errorf("kubernetes: %w", err)
	}
	return made.Metadata.Name, nil
}

// Name returns the name of the Job.
func (j *Job) Name() string { return j.name }

// Dial connects to the server in the pod.
func (j *Job) Dial(ctx context.Context) (net.Conn, error) {
	return j.c.exec(ctx, j.pod, dialCommand)
}

// closeTime is how long Close may take, also after its context has ended.
const closeTime = 10 * time.Second

// Close deletes the Job and its pod. Without it, the server ends when nobody has used it for a minute, and the cluster removes the Job.
func (j *Job) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
	defer cancel()
	return j.c.delete(ctx, j.c.jobs()+"/"+j.name+"?propagationPolicy=Background&gracePeriodSeconds=0")
}
