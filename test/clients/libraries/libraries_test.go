//go:build e2e

// Package libraries uses the engine that DOCKER_HOST names by testcontainers-go and by Docker's Go client.
package libraries

import (
	"archive/tar"
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

// TestContainer: a container from an image, and one from a Dockerfile, that tests wait for.
func TestContainer(t *testing.T) {
	for name, request := range map[string]testcontainers.ContainerRequest{
		"image": {Image: "base", Cmd: []string{"sh", "-c", "mkdir /www; echo served >/www/index.html; echo ready; exec busybox httpd -f -p 80 -h /www"}},
		"build": {FromDockerfile: testcontainers.FromDockerfile{ContextArchive: archive(t,
			"FROM base\nRUN mkdir /www && echo served >/www/index.html\nCMD [\"sh\", \"-c\", \"echo ready; exec busybox httpd -f -p 80 -h /www\"]\n")}},
	} {
		t.Run(name, func(t *testing.T) {
			request.ExposedPorts = []string{"80/tcp"}
			request.WaitingFor = wait.ForAll(wait.ForLog("ready"), wait.ForHTTP("/").WithResponseMatcher(func(r io.Reader) bool {
				data, err := io.ReadAll(r)
				return err == nil && string(data) == "served\n"
			}))
			c, err := testcontainers.GenericContainer(t.Context(), testcontainers.GenericContainerRequest{ContainerRequest: request, Started: true})
			testcontainers.CleanupContainer(t, c, testcontainers.StopTimeout(0))
			if err != nil {
				t.Fatal(err)
			}
			code, out, err := c.Exec(t.Context(), []string{"cat", "/www/index.html"})
			if err != nil || code != 0 {
				t.Fatalf("exec: %d, %v", code, err)
			}
			if data, err := io.ReadAll(out); err != nil || !strings.Contains(string(data), "served\n") {
				t.Errorf("exec: %q, %v", data, err)
			}
			if err := c.CopyToContainer(t.Context(), []byte("copied"), "/copied", 0o644); err != nil {
				t.Fatal(err)
			}
			r, err := c.CopyFileFromContainer(t.Context(), "/copied")
			if err != nil {
				t.Fatal(err)
			}
			if data, err := io.ReadAll(r); err != nil || string(data) != "copied" {
				t.Errorf("the copy is %q, %v", data, err)
			}
		})
	}
}

func archive(t *testing.T, dockerfile string) io.ReadSeeker {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "Dockerfile", Mode: 0o644, Size: int64(len(dockerfile))}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, dockerfile); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(b.Bytes())
}

// TestClient: Docker's Go client agrees on a version, and sees the image.
func TestClient(t *testing.T) {
	c, err := client.New(client.FromEnv)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	img, err := c.ImageInspect(t.Context(), "base")
	if err != nil || len(img.RootFS.Layers) != 1 {
		t.Errorf("%+v, %v", img, err)
	}
	if _, err := c.ImageInspect(t.Context(), "none"); err == nil || !strings.Contains(err.Error(), "No such image: none:latest") {
		t.Errorf("an image that is not there: %v", err)
	}
}
