package kubejob

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.yaml.in/yaml/v3"
)

const (
	namePrefix    = "mica-build-"
	nameLength    = 10 // of what follows the prefix
	containerName = "mica"
	socketDir     = "/run/mica"
	storeDir      = "/var/lib/mica"
	address       = "unix://" + socketDir + "/mica.sock"
	// idleTime is how long a server runs that nobody uses: a client that was killed closes nothing.
	idleTime = "1m"
	// removeAfter is how long the cluster keeps a Job that has ended, in seconds.
	removeAfter = 60
	// longest is how long a Job may run, in seconds.
	longest = 6 * 60 * 60
)

// dialCommand connects its stdin and stdout to the server.
var dialCommand = []string{"mica", "dial-stdio", "--addr", address}

func anys(list []string) (all []any) {
	for _, s := range list {
		all = append(all, s)
	}
	return all
}

// object is a part of an object of Kubernetes.
type object = map[string]any

// isolations are those that are tried, the pod with the fewest rights first.
var isolations = []string{"fakeroot", "oci", "chroot"}

// rights are those of the container and of its pod for an isolation (docs/pods.md).
func rights(isolation string) (container, pod object, err error) {
	switch isolation {
	case "fakeroot": // restricted
		return object{
			"allowPrivilegeEscalation": false, "runAsUser": 0, "capabilities": object{"drop": []any{"ALL"}}, "seccompProfile": object{"type": "RuntimeDefault"},
		}, object{"hostUsers": false}, nil
	case "oci": // baseline, where the kubelet sets no seccomp profile of its own
		return object{"procMount": "Unmasked"}, object{"hostUsers": false}, nil
	case "chroot": // baseline
		return object{"runAsUser": 0}, object{}, nil
	}
	return nil, nil, fmt.Errorf("invalid isolation %q: use fakeroot, oci or chroot", isolation)
}

// newJob returns the Job for a platform.
func newJob(o *Options, isolation string, p ocispec.Platform, patch object) (object, error) {
	security, pod, err := rights(isolation)
	if err != nil {
		return nil, err
	}
	labels := object{"app.kubernetes.io/name": "mica", "app.kubernetes.io/component": "build"}
	container := object{
		"name":    containerName,
		"command": []any{"mica", "serve", "--addr", address, "--idle-timeout", idleTime, "--isolation", isolation},
		"env":     []any{object{"name": "MICA_ROOT", "value": storeDir}},
		"volumeMounts": []any{
			object{"name": "store", "mountPath": storeDir}, object{"name": "run", "mountPath": socketDir},
		},
		"securityContext": security,
		"startupProbe":    object{"exec": object{"command": append(anys(dialCommand), "--check")}, "periodSeconds": 1, "failureThreshold": 60},
	}
	if o.Image != "" {
		container["image"] = o.Image
	}
	maps.Copy(pod, object{
		"restartPolicy": "Never", "automountServiceAccountToken": false, "enableServiceLinks": false, "terminationGracePeriodSeconds": 5,
		"nodeSelector": object{"kubernetes.io/os": p.OS, "kubernetes.io/arch": p.Architecture},
		"containers":   []any{container},
		"volumes":      []any{object{"name": "store", "emptyDir": object{}}, object{"name": "run", "emptyDir": object{"medium": "Memory", "sizeLimit": "1Mi"}}},
	})
	job := merge(object{
		"apiVersion": "batch/v1", "kind": "Job",
		"metadata": object{"labels": labels},
		"spec": object{
			"backoffLimit": 0, "ttlSecondsAfterFinished": removeAfter, "activeDeadlineSeconds": longest,
			"template": object{"metadata": object{"labels": labels}, "spec": pod},
		},
	}, patch)
	for _, c := range list(at(job, "spec", "template", "spec"), "containers") {
		if m, ok := c.(object); ok && m["name"] == containerName && (m["image"] == nil || m["image"] == "") {
			return nil, errors.New("kubernetes needs an image of mica: add image=REGISTRY/mica:TAG")
		}
	}
	return job, nil
}

// MaxTemplate limits a template, in bytes.
const MaxTemplate = 1 << 20

// readTemplate reads YAML that is merged into the Job.
func readTemplate(raw []byte) (object, error) {
	if len(raw) > MaxTemplate {
		return nil, fmt.Errorf("template: it has more than %d bytes", MaxTemplate)
	}
	var patch object
	if err := yaml.Unmarshal(raw, &patch); err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	if kind, ok := patch["kind"]; ok && kind != "Job" {
		return nil, fmt.Errorf("template: it is a %v, not a Job", kind)
	}
	return patch, nil
}

// merge returns an object with the fields of a patch: maps are merged, and of lists the entries that have a name; other entries are added,
// and other values are replaced.
func merge(base, patch object) object {
	out := maps.Clone(base)
	for k, v := range patch {
		switch v := v.(type) {
		case object:
			if below, ok := out[k].(object); ok {
				out[k] = merge(below, v)
				continue
			}
		case []any:
			if below, ok := out[k].([]any); ok {
				out[k] = mergeLists(below, v)
				continue
			}
		}
		out[k] = v
	}
	return out
}

func mergeLists(base, patch []any) []any {
	out := slices.Clone(base)
	for _, entry := range patch {
		m, ok := entry.(object)
		i := -1
		if ok && m["name"] != nil {
			i = slices.IndexFunc(out, func(other any) bool {
				o, ok := other.(object)
				return ok && o["name"] == m["name"]
			})
		}
		if i < 0 {
			out = append(out, entry)
			continue
		}
		out[i] = merge(out[i].(object), m) //nolint:forcetypeassert // see above
	}
	return out
}

// at returns a part of an object, an empty one if it is not there.
func at(o object, path ...string) object {
	for _, name := range path {
		o, _ = o[name].(object)
	}
	return o
}

func list(o object, name string) []any {
	l, _ := o[name].([]any)
	return l
}
