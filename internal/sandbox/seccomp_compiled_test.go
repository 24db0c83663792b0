package sandbox

import (
	"os"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A filter is compiled when it is first wanted, kept when it is wanted again, and from then on given as it was kept.
func TestCompiledFilters(t *testing.T) {
	var c compiledFilters
	dir := t.TempDir()
	spec := func() *specs.Spec { return &specs.Spec{Linux: &specs.Linux{Seccomp: dockersFilter(t)}} }

	first, second, third := spec(), spec(), spec()
	c.prepare(first, dir)()
	if first.Hooks != nil || first.Annotations != nil {
		t.Errorf("the first is not left as it is: %+v %v", first.Hooks, first.Annotations)
	}
	remember := c.prepare(second, dir)
	if second.Hooks == nil || second.Annotations != nil {
		t.Fatalf("the second is not to be kept: %v", second.Annotations)
	}
	hook := second.Hooks.Poststart[0].Args
	writeFile(t, dir+"/made", "8 bytes.")
	keepMain(dir+"/made", hook[2])
	remember()
	c.prepare(third, dir)()
	if got := third.Annotations[compiledAnnotation]; got != "OCBieXRlcy4=" || third.Hooks != nil {
		t.Errorf("the third is given %q", got)
	}
}

// What the hook could not keep, or kept half, is not given to the kernel.
func TestCompiledFilterDamaged(t *testing.T) {
	for name, content := range map[string]string{"none": "", "half": "8 bytes.and"} {
		t.Run(name, func(t *testing.T) {
			var c compiledFilters
			dir := t.TempDir()
			spec := func() *specs.Spec { return &specs.Spec{Linux: &specs.Linux{Seccomp: dockersFilter(t)}} }
			c.prepare(spec(), dir)()
			remember := c.prepare(spec(), dir)
			if content != "" {
				writeFile(t, dir+"/"+compiledFile, content)
			}
			remember()
			third := spec()
			c.prepare(third, dir)()
			if third.Annotations != nil {
				t.Errorf("given %v", third.Annotations)
			}
		})
	}
}
