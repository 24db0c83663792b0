package dockerfile

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var amd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}

func changed(c dockerspec.DockerOCIImageConfig, set func(c *dockerspec.DockerOCIImageConfig)) dockerspec.DockerOCIImageConfig {
	set(&c)
	return c
}

// TestChanges has one of each; test/docker compares many with Docker's.
func TestChanges(t *testing.T) {
	none := dockerspec.DockerOCIImageConfig{}
	for text, want := range map[string]dockerspec.DockerOCIImageConfig{
		"ENV A=\"b c\"\nENV B=$A PATH=/x:$PATH C=d": changed(none, func(c *dockerspec.DockerOCIImageConfig) {
			c.Env = []string{"A=b c", "B=b c", "PATH=/x:", "C=d"}
		}),
		"ENV N=PATH\nENV $N=": changed(none, func(c *dockerspec.DockerOCIImageConfig) { c.Env = []string{"N=PATH", "PATH="} }),
		"ENV A=b \\\nC=$PATH": changed(none, func(c *dockerspec.DockerOCIImageConfig) { c.Env = []string{"A=b", "C="} }),
		"WORKDIR a\nWORKDIR ../b": changed(none, func(c *dockerspec.DockerOCIImageConfig) {
			c.Env, c.WorkingDir = []string{}, "/b"
		}),
		"WORKDIR /a/../b/": changed(none, func(c *dockerspec.DockerOCIImageConfig) { c.Env, c.WorkingDir = []string{}, "/b" }),
		"# escape=`\nCMD a `\n b\nENTRYPOINT [\"c\"]\nSTOPSIGNAL TERM": changed(none, func(c *dockerspec.DockerOCIImageConfig) {
			c.Env, c.Cmd, c.Entrypoint, c.StopSignal = []string{}, []string{"/bin/sh", "-c", "a  b"}, []string{"c"}, "TERM"
		}),
		"EXPOSE 8000-8001": changed(none, func(c *dockerspec.DockerOCIImageConfig) {
			c.Env, c.ExposedPorts = []string{}, map[string]struct{}{"8000/tcp": {}, "8001/tcp": {}}
		}),
	} {
		got, err := Config(t.Context(), strings.Split(text, "\n"), amd64)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, want %+v; %v", text, got, want, err)
		}
	}
	if got, err := Config(t.Context(), nil, amd64); err != nil || !reflect.DeepEqual(got, none) {
		t.Errorf("no changes: %+v, %v", got, err)
	}
}

func TestChangesRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                   "file with no instructions",
		"ENV A=b\nRUN true":  "RUN is not a valid change command",
		"???":                "??? is not a valid change command",
		"FROM scratch":       "FROM is not a valid change command",
		"ENV":                "ENV requires at least one argument",
		"WORKDIR $NONE":      "cannot normalize nothing",
		"STOPSIGNAL SIGNONE": "invalid signal: SIGNONE",
		"ENV A=${B:?no}":     `failed to process "${B:?no}": B: no`,
		"ENV A=0123456789\n" + lines(8, "ENV A="+tenfold): "line 7 of the changes: a value is longer than 1MiB",
		lines(20_000, "ENV E#=v"):                         "too many variables in too many instructions",
		lines(5, "EXPOSE 1-65535/udp 127.0.0.1:1-65535"):  "EXPOSE of more than 262144 ports",
	} {
		if _, err := Config(t.Context(), strings.Split(text, "\n"), amd64); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %q", text, err, want)
		}
	}
}

// FuzzChanges: what is allowed sets nothing that no instruction names, and what is not is an error.
func FuzzChanges(f *testing.F) {
	for _, text := range []string{
		"ENV A=\"b c\"\nENV B=$A PATH=/x:$PATH C=d", "# escape=`\nCMD a `\n b\n", "EXPOSE 8000-8001 $A", "VOLUME [\"$A\"]", "ENV A=b \\",
		"HEALTHCHECK --interval=5s CMD true", "ONBUILD RUN <<E\nE", "ENV $A=b", "ENV PATH", "\ufeffUSER $A", "FROM a\nENV A=b", "LABEL a='b\nCMD c'",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Config(t.Context(), []string{text}, amd64)
		if err != nil {
			return
		}
		path := slices.IndexFunc(c.Env, isPath)
		if path >= 0 && !strings.Contains(strings.ToUpper(text), "ENV") {
			t.Errorf("%q sets PATH", text)
		}
	})
}
