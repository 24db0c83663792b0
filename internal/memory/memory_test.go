package memory

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestProgramMappings(t *testing.T) {
	t.Parallel()
	const text = `00400000-01400000 r-xp 00000000 fe:00 1 /bin/mica
Size:              16384 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
01400000-02400000 r--p 01000000 fe:00 1 /bin/mica
Anonymous:             4 kB
02400000-02500000 r--p 02000000 fe:00 1 /bin/mica
Anonymous:             0 kB
02500000-02600000 rw-p 02100000 fe:00 1 /bin/mica
Anonymous:             0 kB
7f0000000000-7f0000001000 r--p 00000000 fe:00 2 /lib/x.so
Anonymous:             0 kB
7f0000002000-7f0000003000 r--p 00000000 00:00 0
Anonymous:             0 kB
`
	want := []mapping{{0x400000, 0x1400000}, {0x2400000, 0x2500000}}
	if diff := cmp.Diff(want, programMappings(strings.NewReader(text), "/bin/mica"), cmp.AllowUnexported(mapping{})); diff != "" {
		t.Error(diff)
	}
}

// fileRSS is how much of files is in the memory of this process, in KiB.
func fileRSS(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	_, text, _ := strings.Cut(string(data), "RssFile:")
	n, err := strconv.Atoi(strings.Fields(text)[0])
	if err != nil {
		t.Skip(err)
	}
	return n
}

// TestRelease: the program is smaller afterwards, and goes on.
func TestRelease(t *testing.T) {
	before := fileRSS(t)
	Release()
	if after := fileRSS(t); after >= before {
		t.Errorf("%d KiB of the program before, %d after", before, after)
	}
}
