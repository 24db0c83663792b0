//go:build e2e

package pods

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/micabuild/mica/test/rig"
)

// container is what an example says of the container of mica.
type container struct {
	Image           string
	Command, Args   []string
	SecurityContext struct {
		RunAsUser                *uint32 `yaml:"runAsUser"`
		RunAsNonRoot             bool    `yaml:"runAsNonRoot"`
		AllowPrivilegeEscalation *bool   `yaml:"allowPrivilegeEscalation"`
		Capabilities             struct{ Drop []string }
	} `yaml:"securityContext"`
	Env []struct{ Name, Value string }
}

// anyUser is one of those that OpenShift gives a namespace.
const anyUser = 1000660000

// level is the level of a pod with the container.
func (c *container) level(t *testing.T, hostUsers bool) level {
	t.Helper()
	s := c.SecurityContext
	l := level{users: !hostUsers, restricted: slices.Equal(s.Capabilities.Drop, []string{"ALL"})}
	if l.restricted != (s.AllowPrivilegeEscalation != nil && !*s.AllowPrivilegeEscalation) {
		t.Error("capabilities and allowPrivilegeEscalation are of two levels")
	}
	switch {
	case s.RunAsUser != nil:
		l.uid = *s.RunAsUser
	case s.RunAsNonRoot:
		l.uid = anyUser
	}
	return l
}

// example reads the container of mica in a file of examples.
func example(t *testing.T, name string) (c *container, hostUsers bool) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(rig.Top(), "examples", name))
	if err != nil {
		t.Fatal(err)
	}
	documents := yaml.NewDecoder(strings.NewReader(string(text)))
	for {
		var doc yaml.Node
		err := documents.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if found := findContainer(t, &doc); found != nil {
			c = found
		}
	}
	if c == nil {
		t.Fatalf("%s has no container of mica", name)
	}
	return c, !regexp.MustCompile(`(?m)^[^#]*hostUsers"?: false`).Match(text)
}

func findContainer(t *testing.T, n *yaml.Node) *container {
	t.Helper()
	var c container
	if n.Kind == yaml.MappingNode && n.Decode(&c) == nil && strings.Contains(c.Image, "/mica:") {
		return &c
	}
	for _, child := range n.Content {
		if found := findContainer(t, child); found != nil {
			return found
		}
	}
	return nil
}

// The examples for clusters build and push in pods with just the rights that they ask for.
func TestExamples(t *testing.T) {
	host, registry := pushedBase(t)
	repos := newRepositories(t)
	repos.commit(t, "app", map[string]string{"Dockerfile": "FROM " + registry + "/base\nCOPY file /\nRUN id -u >/me && chown 7:8 /file\n", "file": "file\n"})
	known := []string{
		"https://git.example.com", repos.url, "$(params.image)", registry + "/app:1", "$(params.cache)", registry + "/app/cache", "{{workflow.parameters.image}}", registry + "/app:1",
		"{{workflow.parameters.cache}}", registry + "/app/cache", "{{workflow.parameters.source}}", repos.url + "/app.git#main", "registry.example.com", registry,
		"image-registry.openshift-image-registry.svc:5000/example", registry, "europe-docker.pkg.dev/example/images", registry, "123456789012.dkr.ecr.eu-central-1.amazonaws.com", registry,
	}
	for name, want := range map[string]level{
		"kubernetes/job.yaml": levelB, "tekton/task.yaml": levelB, "argo/workflow.yaml": levelB, "openshift/job.yaml": {uid: anyUser, restricted: true},
		"gke-autopilot/job.yaml": levelC, "eks/job.yaml": levelB,
	} {
		t.Run(name, func(t *testing.T) {
			c, hostUsers := example(t, name)
			want.name = ""
			if got := c.level(t, hostUsers); got != want {
				t.Fatalf("the pod has %+v, want %+v", got, want)
			}
			p := newImagePod(t, want, "mica-image.tar", "/usr/bin/mica")
			if want.uid == anyUser {
				p.keepRootMode()
			}
			for _, e := range c.Env {
				if e.Value == "/store" { // a volume
					e.Value = "/work/store"
				}
				if e.Value != "" && e.Name != "DOCKER_CONFIG" {
					p.env = append(p.env, e.Name+"="+e.Value)
				}
			}
			args := slices.Clone(c.Args)
			for i := range args {
				args[i] = strings.NewReplacer(known...).Replace(args[i])
			}
			if args[len(args)-1] == "." { // the workspace, which is the directory of the step
				rig.Must(t, "git", "clone", "-q", repos.url+"/app.git", p.work("source"))
				args[len(args)-1] = "source"
			}
			p.run(args...)
			checkExample(t, host, registry+"/app:1")
		})
	}
}

// checkExample checks what an example has pushed.
func checkExample(t *testing.T, host *rig.Mica, image string) {
	t.Helper()
	host.Run("pull", "-q", image)
	if got := host.Run("run", "--rm", image, "sh", "-c", "cat /file /me; stat -c %u:%g /file"); got != "file\n0\n7:8\n" {
		t.Errorf("the image has %q", got)
	}
	host.Run("rmi", image)
}

// The script of GitLab's example runs in a shell of mica's image, in a pod as its runner makes it.
func TestExampleGitLab(t *testing.T) {
	host, registry := pushedBase(t)
	config, err := os.ReadFile(filepath.Join(rig.Top(), "examples/gitlab/config.toml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"host_users = false", "run_as_user = 0", "allow_privilege_escalation = false", `drop = ["ALL"]`, `type = "RuntimeDefault"`} {
		if !strings.Contains(string(config), want) {
			t.Errorf("the runner lacks %s", want)
		}
	}
	text, err := os.ReadFile(filepath.Join(rig.Top(), "examples/gitlab/.gitlab-ci.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var job struct {
		Image struct {
			Variables map[string]string
			Script    []string
		}
	}
	if err := yaml.Unmarshal(text, &job); err != nil {
		t.Fatal(err)
	}
	p := newImagePod(t, levelB, "mica-image.tar", "/bin/sh")
	makeContext(t, p.work("source"), "FROM "+registry+"/base\nCOPY file /\nRUN id -u >/me && chown 7:8 /file\n")
	if err := os.WriteFile(p.work("source/file"), []byte("file\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p.env = []string{
		"PATH=/usr/local/bin:/usr/bin:/bin:/busybox", "CI_REGISTRY=" + registry, "CI_REGISTRY_USER=me", "CI_REGISTRY_PASSWORD=secret", "CI_REGISTRY_IMAGE=" + registry + "/app",
		"CI_COMMIT_SHORT_SHA=1", "CI_PROJECT_DIR=/work/source",
	}
	for name, value := range job.Image.Variables {
		p.env = append(p.env, name+"="+value)
	}
	p.run("-ec", strings.Join(job.Image.Script, "\n"))
	checkExample(t, host, registry+"/app:1")
}
