package kubejob

import (
	"encoding/json"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var amd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}

func jobOf(t *testing.T, o Options, isolation, template string) (string, error) {
	t.Helper()
	patch, err := readTemplate([]byte(template))
	if err != nil {
		return "", err
	}
	job, err := newJob(&o, isolation, amd64, patch)
	if err != nil {
		return "", err
	}
	raw, err := json.Marshal(job)
	return string(raw), err
}

func TestTemplate(t *testing.T) {
	t.Parallel()
	got, err := jobOf(t, Options{Image: "mica:1"}, "chroot", `
metadata: {labels: {kueue.x-k8s.io/queue-name: builds}}
spec:
  ttlSecondsAfterFinished: 5
  template:
    spec:
      serviceAccountName: builder
      nodeSelector: {disk: ssd}
      containers:
      - name: mica
        image: mine:2
        resources: {requests: {cpu: "2"}}
      - {name: sidecar, image: other}
      volumes:
      - {name: store, emptyDir: null, persistentVolumeClaim: {claimName: cache}}
`)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"kueue.x-k8s.io/queue-name":"builds"`, `"app.kubernetes.io/name":"mica"`, `"ttlSecondsAfterFinished":5`, `"backoffLimit":0`,
		`"nodeSelector":{"disk":"ssd","kubernetes.io/arch":"amd64","kubernetes.io/os":"linux"}`, `"serviceAccountName":"builder"`,
		`"image":"mine:2","name":"mica","resources":{"requests":{"cpu":"2"}}`, `{"image":"other","name":"sidecar"}`,
		`{"emptyDir":null,"name":"store","persistentVolumeClaim":{"claimName":"cache"}}`, `"securityContext":{"runAsUser":0}`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}

func TestInvalidTemplate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ image, isolation, template, want string }{
		{"", "chroot", "", "needs an image"},
		{"", "chroot", "spec: {template: {spec: {containers: [{name: other, image: x}]}}}", "needs an image"},
		{"", "chroot", "spec: {template: {spec: {containers: [{name: mica, image: x}]}}}", ""},
		{"x", "privileged", "", "invalid isolation"},
		{"x", "oci", "kind: Pod", "it is a Pod, not a Job"},
		{"x", "oci", "{", "template: "},
		{"x", "oci", "- a", "template: "},
		{"x", "oci", strings.Repeat("#", MaxTemplate+1), "more than"},
	} {
		_, err := jobOf(t, Options{Image: c.image}, c.isolation, c.template)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%.40q: %v, want %q", c.template, err, c.want)
		}
	}
}

func TestPodState(t *testing.T) {
	t.Parallel()
	for status, want := range map[string]string{
		`{}`: "waits ",
		`{"conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"no node"}]}`:     "waits Unschedulable: no node",
		`{"containerStatuses":[{"name":"mica","state":{"waiting":{"reason":"ContainerCreating"}}}]}`:                 "waits ContainerCreating",
		`{"containerStatuses":[{"name":"mica","state":{"waiting":{"reason":"ImagePullBackOff","message":"gone"}}}]}`: "error pod p: ImagePullBackOff: gone",
		`{"containerStatuses":[{"name":"mica","state":{"terminated":{"reason":"Error","exitCode":3}}}]}`:             "error pod p has ended with exit code 3: Error ",
		`{"containerStatuses":[{"name":"other","ready":true},{"name":"mica","ready":false,"state":{"running":{}}}]}`: "waits ",
		`{"containerStatuses":[{"name":"mica","ready":true}]}`:                                                       "ready",
		`{"phase":"Failed","reason":"Evicted","message":"the node was low on resource"}`:                             "error pod p: the cluster has taken the pod away: Evicted the node was low on resource",
	} {
		var p pod
		if err := json.Unmarshal([]byte(`{"metadata":{"name":"p"},"status":`+status+`}`), &p); err != nil {
			t.Fatal(err)
		}
		ready, waits, err := p.state()
		got := "waits " + waits
		if ready {
			got = "ready"
		}
		if err != nil {
			got = "error " + err.Error()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", status, got, want)
		}
	}
}
