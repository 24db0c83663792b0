package dockerfile

import "testing"

func TestKnownFrontend(t *testing.T) {
	for ref, want := range map[string]bool{
		"docker/dockerfile":                                   true,
		"docker/dockerfile:1":                                 true,
		"docker/dockerfile:1.7-labs":                          true,
		"docker/dockerfile-upstream:master":                   true,
		"docker.io/docker/dockerfile:1":                       true,
		"index.docker.io/docker/dockerfile:1":                 true,
		"mirror.gcr.io/docker/dockerfile":                     true,
		"public.ecr.aws/docker/dockerfile:1":                  true,
		"registry.example.com:5000/proxy/docker/dockerfile:1": true,
		"localhost:5000/a/b/c/docker/dockerfile:1":            true,
		"docker/dockerfile:1@sha256:ac85f380a63b13dfcefa89046420e1781752bab202122f8f50032edf31be0021":             true,
		"mirror.gcr.io/docker/dockerfile@sha256:ac85f380a63b13dfcefa89046420e1781752bab202122f8f50032edf31be0021": true,

		"":                               false,
		"dockerfile":                     false,
		"docker.io/library/dockerfile":   false,
		"example.com/dockerfile:1":       false,
		"docker/dockerfile/other":        false,
		"own/docker-dockerfile":          false,
		"notdocker/dockerfile":           false,
		"docker/dockerfile-copy:1":       false,
		"tonistiigi/dockerfile:master":   false,
		"docker/buildkit-syft-scanner:1": false,
		"docker//dockerfile":             false,
		"../docker/dockerfile":           false,
		"Docker/Dockerfile":              false,
	} {
		if got := KnownFrontend(ref); got != want {
			t.Errorf("%q: %v, want %v", ref, got, want)
		}
	}
}
