// Package kubejob runs mica serve in a Job of Kubernetes for as long as one client uses it. Nothing is resident in the cluster, and the client
// needs no more than to create and delete Jobs, and to list, watch and exec in pods.
package kubejob

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strings"
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
	// Timeout is how long the pod has until it runs; 0 for 10 minutes, or one if no node of the cluster has the platform.
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

// Check returns an error if no Job can be made of the options, without asking the cluster.
func (o *Options) Check() error {
	patch, err := readTemplate(o.Template)
	if err != nil {
		return err
	}
	for _, isolation := range o.isolations() {
		if _, err := newJob(o, isolation, ocispec.Platform{}, patch); err != nil {
			return err
		}
	}
	return nil
}

// isolations are those that are tried.
func (o *Options) isolations() []string {
	if o.Isolation != "" {
		return []string{o.Isolation}
	}
	return isolations
}

// Start creates a Job for a platform and waits until its pod runs. The Job has the first isolation whose pods the cluster admits and can start.
// The caller closes it.
func Start(ctx context.Context, o Options, p ocispec.Platform) (*Job, error) {
	c, err := connect(&o)
	if err != nil {
		return nil, err
	}
	return c.start(ctx, &o, p)
}

func (c *cluster) start(ctx context.Context, o *Options, p ocispec.Platform) (*Job, error) {
	patch, err := readTemplate(o.Template)
	if err != nil {
		return nil, err
	}
	var refused []error
	for _, isolation := range o.isolations() {
		spec, err := newJob(o, isolation, p, patch)
		if err != nil {
			return nil, err
		}
		j, err := c.startAs(ctx, spec, o.Timeout)
		if err == nil {
			j.Isolation = isolation
			return j, nil
		}
		var status *StatusError
		var pod *isolationError
		if ctx.Err() != nil || !errors.As(err, &pod) && (!errors.As(err, &status) || !status.refuses()) {
			return nil, err
		}
		refused = append(refused, fmt.Errorf("isolation %s: %w", isolation, err))
	}
	return nil, fmt.Errorf("the cluster runs no pod of mica in namespace %s: %w", c.namespace, errors.Join(refused...))
}

// maxLost is how often a Job is created whose pod the cluster takes away before it serves.
const maxLost = 3

// startAs creates a Job if its pods are admitted, and waits until one serves.
func (c *cluster) startAs(ctx context.Context, spec map[string]any, timeout time.Duration) (*Job, error) {
	if err := c.tryPod(ctx, spec); err != nil {
		return nil, err
	}
	for n := 1; ; n++ {
		j, err := c.startJob(ctx, spec, timeout)
		if err == nil || n == maxLost || !errors.Is(err, errLost) {
			return j, err
		}
	}
}

func (c *cluster) startJob(ctx context.Context, spec map[string]any, timeout time.Duration) (*Job, error) {
	name, err := c.createJob(ctx, spec)
	if err != nil {
		return nil, err
	}
	j := &Job{c: c, name: name}
	if j.pod, err = c.waitForPod(ctx, name, timeout); err != nil {
		return nil, errors.Join(err, j.Close(ctx))
	}
	return j, nil
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
	return &cluster{config: config, http: client, base: base, namespace: namespace, slow: slowStart, patience: patience{firstWait, maxWait}}, nil
}

// tryPod lets the API server check a pod of the Job, and makes none: a Job itself is always admitted.
func (c *cluster) tryPod(ctx context.Context, job map[string]any) error {
	template := at(job, "spec", "template")
	pod := map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": merge(map[string]any{"generateName": namePrefix}, at(template, "metadata")), "spec": template["spec"],
	}
	err := c.post(ctx, c.pods()+"?dryRun=All", pod)
	var status *StatusError
	if errors.As(err, &status) && status.exceedsQuota() { // the Job waits for room
		return nil
	}
	return err
}

// createJob creates a Job and returns its name, which is chosen here: a request that is sent again creates no second one.
func (c *cluster) createJob(ctx context.Context, job map[string]any) (string, error) {
	meta := maps.Clone(at(job, "metadata"))
	name, own := meta["name"].(string)
	if !own {
		prefix, ok := meta["generateName"].(string)
		if !ok {
			prefix = namePrefix
		}
		name = prefix + strings.ToLower(rand.Text())[:nameLength]
		meta["name"] = name
	}
	job = maps.Clone(job)
	job["metadata"] = meta
	err := c.post(ctx, c.jobs(), job)
	var status *StatusError
	if !own && errors.As(err, &status) && status.Code == http.StatusConflict {
		return name, nil // the answer to an earlier request was lost
	}
	return name, err
}

// Name returns the name of the Job.
func (j *Job) Name() string { return j.name }

// Dial connects to the server in the pod.
func (j *Job) Dial(ctx context.Context) (net.Conn, error) {
	return j.c.exec(ctx, j.pod, dialCommand)
}

// closeTime is how long Close may take, also after its context has ended: long enough for an API server that many clients ask at once.
const closeTime = time.Minute

// Close deletes the Job and its pod. Without it, the server ends when nobody has used it for a minute, and the cluster removes the Job.
func (j *Job) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
	defer cancel()
	return j.c.delete(ctx, j.c.jobs()+"/"+j.name+"?propagationPolicy=Background&gracePeriodSeconds=0")
}
