package table

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var (
	fixed    = Format{Magic: "mica-test-fixed\n", KeySize: 8, ValueSize: 4}
	variable = Format{Magic: "mica-test-any--\n", KeySize: 8}
)

const noLimit = 1 << 30

// formats are the two kinds of tables.
var formats = map[string]Format{"fixed": fixed, "variable": variable}

func key(i int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(i)) }

// value is what tests store under key(i): its length depends on i where it may.
func value(f Format, i int) []byte {
	v := binary.BigEndian.AppendUint32(nil, uint32(i)*2654435761)
	if f.ValueSize == 0 {
		return bytes.Repeat(v, i%5)
	}
	return v
}

func open(t testing.TB, path string, f Format) *Table {
	t.Helper()
	x := Open(path, f)
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

// add opens a table, adds the values of keys, and saves it.
func add(t testing.TB, path string, f Format, limit int, keys ...int) {
	t.Helper()
	x := open(t, path, f)
	for _, i := range keys {
		x.Put(key(i), value(f, i))
	}
	if err := x.Save(t.Context(), limit); err != nil {
		t.Fatal(err)
	}
}

// holds compares what the file has of the keys from 0 to n with want.
func holds(t testing.TB, path string, f Format, n int, want ...int) {
	t.Helper()
	x := open(t, path, f)
	wanted := map[int]bool{}
	for _, i := range want {
		wanted[i] = true
	}
	for i := range n {
		got, ok := x.Get(key(i))
		if ok != wanted[i] {
			t.Errorf("key %d is there: %v, want %v", i, ok, wanted[i])
		} else if ok && !bytes.Equal(got, value(f, i)) {
			t.Errorf("key %d has the value %x, want %x", i, got, value(f, i))
		}
	}
	if x.file.count != len(want) {
		t.Errorf("the file has %d records, want %d", x.file.count, len(want))
	}
}

func upTo(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

func each(t *testing.T, test func(t *testing.T, path string, f Format)) {
	t.Helper()
	for name, f := range formats {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, filepath.Join(t.TempDir(), "table"), f)
		})
	}
}

func TestSave(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		saves [][]int
		want  []int
	}{
		"nothing":            {[][]int{{}}, nil},
		"one":                {[][]int{{3}}, []int{3}},
		"in any order":       {[][]int{{5, 1, 3, 0}}, []int{0, 1, 3, 5}},
		"before and between": {[][]int{{2, 4}, {0, 1, 3}}, []int{0, 1, 2, 3, 4}},
		"behind":             {[][]int{{0, 1}, {2, 5}}, []int{0, 1, 2, 5}},
		"again":              {[][]int{{1, 2}, {2}, {1, 2}}, []int{1, 2}},
		"more than a word":   {[][]int{upTo(70), {70, 71}}, upTo(72)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, path string, f Format) {
				for _, keys := range c.saves {
					add(t, path, f, noLimit, keys...)
				}
				holds(t, path, f, 80, c.want...)
			})
		})
	}
}

func TestGetReturnsWhatWasPut(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, path string, f Format) {
		add(t, path, f, noLimit, 1, 2)
		x := open(t, path, f)
		x.Put(key(2), value(f, 4))
		x.Put(key(3), value(f, 3))
		for i, want := range map[int][]byte{0: nil, 1: value(f, 1), 2: value(f, 4), 3: value(f, 3)} {
			if got, ok := x.Get(key(i)); ok != (want != nil) || !bytes.Equal(got, want) {
				t.Errorf("key %d has the value %x, %v, want %x", i, got, ok, want)
			}
		}
		got, _ := x.Get(key(1))
		copy(got, "xxxx") // the caller's own
		if err := x.Save(t.Context(), noLimit); err != nil {
			t.Fatal(err)
		}
		y := open(t, path, f)
		if got, ok := y.Get(key(2)); !ok || !bytes.Equal(got, value(f, 4)) {
			t.Errorf("a value that was replaced is %x, %v, want %x", got, ok, value(f, 4))
		}
		if got, ok := y.Get(key(1)); !ok || !bytes.Equal(got, value(f, 1)) {
			t.Errorf("a value that a caller wrote to is %x, %v, want %x", got, ok, value(f, 1))
		}
	})
}

// TestSaveKeepsToItsLimit: what was neither put nor found is removed.
func TestSaveKeepsToItsLimit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limit int
		want  []int
	}{
		"within": {101, upTo(101)},
		"over":   {100, []int{7, 63, 64, 99, 100}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, path string, f Format) {
				add(t, path, f, noLimit, upTo(100)...)
				x := open(t, path, f)
				for _, i := range []int{7, 63, 64, 99} {
					x.Get(key(i))
				}
				add(t, path, f, noLimit) // another process
				x.Put(key(100), value(f, 100))
				if err := x.Save(t.Context(), c.limit); err != nil {
					t.Fatal(err)
				}
				holds(t, path, f, 120, c.want...)
			})
		})
	}
}

func TestSaveMergesWithOthers(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, path string, f Format) {
		var wg sync.WaitGroup
		for i := range 20 {
			x := open(t, path, f)
			wg.Go(func() {
				x.Put(key(i), value(f, i))
				if err := x.Save(t.Context(), noLimit); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		holds(t, path, f, 25, upTo(20)...)
		if _, err := os.Stat(path + ".new"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a temporary file is left: %v", err)
		}
	})
}

func TestTableIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, path string, f Format) {
		add(t, path, f, noLimit, upTo(50)...)
		x := open(t, path, f)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for i := range 100 {
					x.Put(key(i+25), value(f, i+25))
					if got, ok := x.Get(key(i)); !ok || !bytes.Equal(got, value(f, i)) {
						t.Errorf("key %d has the value %x, %v", i, got, ok)
					}
				}
				if err := x.Save(t.Context(), noLimit); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		holds(t, path, f, 200, upTo(125)...)
	})
}

// TestSaveWithoutChange leaves the file alone.
func TestSaveWithoutChange(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "missing", "table")
	x := open(t, path, fixed)
	if err := x.Save(t.Context(), noLimit); err != nil {
		t.Fatal(err)
	}
}

func TestSaveErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	x := open(t, filepath.Join(dir, "missing", "table"), fixed)
	x.Put(key(1), value(fixed, 1))
	if err := x.Save(t.Context(), noLimit); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a table in a missing directory: %v, want %v", err, fs.ErrNotExist)
	}

	path := filepath.Join(dir, "table")
	if err := os.MkdirAll(filepath.Join(path, "directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	x = open(t, path, fixed)
	x.Put(key(1), value(fixed, 1))
	if err := x.Save(t.Context(), noLimit); err == nil {
		t.Error("a table in the place of a directory is saved")
	}
	if _, err := os.Stat(path + ".new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a temporary file is left: %v", err)
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := x.Save(t.Context(), noLimit); err != nil {
		t.Fatal(err)
	}
	holds(t, path, fixed, 3, 1)
}

func TestPutPanics(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		format     Format
		key, value []byte
	}{
		"a short key":   {fixed, key(1)[:7], value(fixed, 1)},
		"a long key":    {variable, append(key(1), 0), nil},
		"a short value": {fixed, key(1), value(fixed, 1)[:3]},
		"a huge value":  {variable, key(1), make([]byte, maxValue+1)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			defer func() {
				if recover() == nil {
					t.Error("it is accepted")
				}
			}()
			Open(filepath.Join(t.TempDir(), "table"), c.format).Put(c.key, c.value)
		})
	}
}

// TestDamage damages a table: no wrong value is returned, and the next Save repairs the file.
func TestDamage(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, path string, f Format) {
		const n = 6
		add(t, path, f, noLimit, upTo(n)...)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		damages := map[string][]byte{
			"empty":           {},
			"only the header": whole[:headerSize],
			"another file":    bytes.Repeat([]byte("other"), 100),
			"longer":          append(bytes.Clone(whole), 0),
			"zeros":           append(bytes.Clone(whole[:headerSize]), make([]byte, len(whole)-headerSize)...),
			"a huge count":    append(f.header(1<<62), whole[headerSize:]...),
			"other version":   append([]byte("mica-test-other\n"), whole[magicSize:]...),
		}
		for i := range whole {
			damages[fmt.Sprintf("cut off at %d", i)] = whole[:i]
			flipped := bytes.Clone(whole)
			flipped[i] ^= 0x80
			damages[fmt.Sprintf("byte %d changed", i)] = flipped
		}
		for name, data := range damages {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			x := open(t, path, f)
			for i := range 2 * n {
				if got, ok := x.Get(key(i)); ok && (i >= n || !bytes.Equal(got, value(f, i))) {
					t.Errorf("%s: key %d has the value %x", name, i, got)
				}
			}
			add(t, path, f, noLimit, upTo(n)...)
			holds(t, path, f, 2*n, upTo(n)...)
			if t.Failed() {
				t.Fatalf("%s", name)
			}
		}
	})
}

// TestDamagedKeyHidesNothing: a key that is damaged stands out of order, and must not make a Save write others out of order.
func TestDamagedKeyHidesNothing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, path string, f Format) {
		add(t, path, f, noLimit, 1, 3, 5, 7)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[headerSize+f.recordSize()] = 0xff // the key 3
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		add(t, path, f, noLimit, 2, 6)
		holds(t, path, f, 10, 1, 2, 5, 6, 7)
	})
}

// TestOutOfOrder: records that are whole but out of order, which no mica writes, are dropped by Save.
func TestOutOfOrder(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "table")
	add(t, path, fixed, noLimit, 1, 2, 3)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	size := fixed.recordSize()
	first := bytes.Clone(data[headerSize : headerSize+size])
	copy(data[headerSize:], data[headerSize+size:headerSize+2*size])
	copy(data[headerSize+size:], first)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	add(t, path, fixed, noLimit, 4)
	holds(t, path, fixed, 6, 2, 3, 4)
}

// The environment that makes this test's own binary a process that saves.
const childPath, childFirst = "MICA_TABLE_TEST_PATH", "MICA_TABLE_TEST_FIRST"

// TestChild is not a test of its own: it is what children run, which save one key after the other and report each.
func TestChild(t *testing.T) {
	path := os.Getenv(childPath)
	if path == "" {
		t.Skip("runs as a child of other tests")
	}
	var first int
	if _, err := fmt.Sscan(os.Getenv(childFirst), &first); err != nil {
		t.Fatal(err)
	}
	for i := first; i < first+100; i++ {
		add(t, path, variable, noLimit, i)
		fmt.Printf("saved %d\n", i)
	}
}

// child starts a process that saves the keys from first on.
func child(t *testing.T, path string, first int) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), childPath+"="+path, fmt.Sprintf("%s=%d", childFirst, first))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewScanner(out)
}

// TestKilled kills processes that save: what they had reported is there, and the next Save works.
func TestKilled(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "table")
	want := map[int]bool{}
	for round := range 8 {
		first := round * 100
		cmd, lines := child(t, path, first)
		for range round + 1 {
			if !lines.Scan() {
				t.Fatal("the child has ended")
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for i := range round + 1 {
			want[first+i] = true
		}
		_ = cmd.Wait() // killed
		x := open(t, path, variable)
		for i := range maps.Keys(want) {
			if got, ok := x.Get(key(i)); !ok || !bytes.Equal(got, value(variable, i)) {
				t.Errorf("key %d, which was saved before the process was killed, has the value %x, %v", i, got, ok)
			}
		}
	}
	add(t, path, variable, noLimit, 1000)
	if got, ok := open(t, path, variable).Get(key(1000)); !ok || !bytes.Equal(got, value(variable, 1000)) {
		t.Errorf("after processes were killed, a value is %x, %v", got, ok)
	}
}

// TestProcesses lets several processes save at once: none loses what another has saved.
func TestProcesses(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "table")
	var wg sync.WaitGroup
	for p := range 3 {
		cmd, lines := child(t, path, p*100)
		wg.Go(func() {
			var out strings.Builder
			for lines.Scan() {
				out.WriteString(lines.Text() + "\n")
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("%v: %s", err, out.String())
			}
		})
	}
	wg.Wait()
	holds(t, path, variable, 310, upTo(300)...)
}

// FuzzTable opens any bytes as a table: nothing panics, and what is put is there after a Save, whatever there was before.
func FuzzTable(f *testing.F) {
	for _, format := range formats {
		path := filepath.Join(f.TempDir(), "table")
		add(f, path, format, noLimit, upTo(5)...)
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, format.ValueSize == 0, uint64(3))
		f.Add(data[:len(data)-1], format.ValueSize == 0, uint64(7))
	}
	f.Fuzz(func(t *testing.T, data []byte, anyLength bool, k uint64) {
		format := fixed
		if anyLength {
			format = variable
		}
		path := filepath.Join(t.TempDir(), "table")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		i := int(k >> 1)
		open(t, path, format).Get(key(i))
		add(t, path, format, noLimit, i)
		x := open(t, path, format)
		if got, ok := x.Get(key(i)); !ok || !bytes.Equal(got, value(format, i)) {
			t.Errorf("key %d has the value %x, %v", i, got, ok)
		}
		for n := range x.file.count {
			if n > 0 && bytes.Compare(x.file.key(n-1), x.file.key(n)) >= 0 {
				t.Error("a Save wrote records out of order")
			}
			if _, ok := x.file.value(x.file.record(n)); !ok {
				t.Error("a Save wrote a damaged record")
			}
		}
	})
}
