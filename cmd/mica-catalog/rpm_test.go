package main

import (
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// newDatabase is an SQLite database that statements make.
func newDatabase(t testing.TB, statements ...string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "rpmdb.sqlite")
	db := openDatabase(t, name)
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return readFile(t, name)
}

func openDatabase(t testing.TB, name string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func readFile(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestRPM checks real databases in the three formats.
func TestRPM(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file, path, release string
		number              int
		want                Package
	}{
		"SQLite": {
			"rpmdb.sqlite", "usr/lib/sysimage/rpm/rpmdb.sqlite", "ID=centos\nVERSION_ID=9\n", 141,
			Package{Name: "basesystem", Version: "11-13.el9", PURL: "pkg:rpm/centos/basesystem@11-13.el9?arch=noarch&distro=centos-9&sourcerpm=basesystem-11-13.el9.src.rpm"},
		},
		"NDB": {
			"Packages.db", "var/lib/rpm/Packages.db", "ID=\"opensuse-leap\"\nVERSION_ID=\"15.4\"\n", 137,
			Package{Name: "bash", Version: "4.4-150400.25.22", PURL: "pkg:rpm/opensuse/bash@4.4-150400.25.22?arch=x86_64&distro=opensuse-leap-15.4&sourcerpm=bash-4.4-150400.25.22.src.rpm"},
		},
		"Berkeley DB": {
			"Packages", "var/lib/rpm/Packages", "ID=\"rhel\"\nVERSION_ID=\"7.9\"\n", 148,
			Package{Name: "acl", Version: "2.2.51-15.el7", PURL: "pkg:rpm/redhat/acl@2.2.51-15.el7?arch=x86_64&distro=rhel-7.9&sourcerpm=acl-2.2.51-15.el7.src.rpm"},
		},
		"epoch": {
			"Packages_epoch", "var/lib/rpm/Packages", "ID=centos\nVERSION_ID=7\n", 1,
			Package{Name: "hello", Version: "1:0.0.1-rls", PURL: "pkg:rpm/centos/hello@0.0.1-rls?arch=x86_64&distro=centos-7&epoch=1&sourcerpm=hello-0.0.1-rls.src.rpm"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := walkFiles(t, map[string]string{"etc/os-release": c.release, c.path: modelFile(t, "os/rpm/testdata/"+c.file)})
			p := got.find(c.want.Name)
			if len(got.packages) != c.number || p == nil || p.Version != c.want.Version || p.PURL != c.want.PURL || p.Path != c.path || p.Type != "rpm" || len(p.Licenses) != 1 || len(got.warnings) > 0 {
				t.Errorf("%d packages, %q, %+v, want %d with %+v", len(got.packages), got.warnings, p, c.number, c.want)
			}
		})
	}
}

// TestRPMLog checks that what only the log of an SQLite database has is read.
func TestRPMLog(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "rpmdb.sqlite")
	if err := os.WriteFile(name, []byte(modelFile(t, "os/rpm/testdata/rpmdb.sqlite")), 0o600); err != nil {
		t.Fatal(err)
	}
	db := openDatabase(t, name)
	db.SetMaxOpenConns(1)
	for _, s := range []string{"PRAGMA journal_mode = wal", "PRAGMA wal_autocheckpoint = 0", "DELETE FROM Packages WHERE hnum > 10"} {
		if _, err := db.Exec(s); err != nil {
			t.Fatal(err)
		}
	}
	var want int
	if err := db.QueryRow("SELECT count(*) FROM Packages").Scan(&want); err != nil {
		t.Fatal(err)
	}
	got := walkFiles(t, map[string]string{"var/lib/rpm/rpmdb.sqlite": readFile(t, name), "var/lib/rpm/rpmdb.sqlite-wal": readFile(t, name+"-wal")})
	if len(got.packages) != want || want < 1 || len(got.warnings) > 0 {
		t.Errorf("%d packages, want %d, %q", len(got.packages), want, got.warnings)
	}
}

// TestRPMTruncated checks that of a database without its end either all packages are listed or there is a warning, which names no
// file of the host.
func TestRPMTruncated(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ file, path string }{{"rpmdb.sqlite", "var/lib/rpm/rpmdb.sqlite"}, {"Packages.db", "var/lib/rpm/Packages.db"}, {"Packages", "var/lib/rpm/Packages"}} {
		whole := modelFile(t, "os/rpm/testdata/"+c.file)
		all := len(walkFiles(t, map[string]string{c.path: whole}).packages)
		const steps = 4
		for i := range steps {
			got := walkFiles(t, map[string]string{c.path: whole[:len(whole)*i/steps]})
			if len(got.packages) != all && len(got.warnings) != 1 || strings.Contains(strings.Join(got.warnings, ""), os.TempDir()) {
				t.Errorf("%s, %d of %d: %d packages of %d, %q", c.file, i, steps, len(got.packages), all, got.warnings)
			}
		}
	}
}

// TestRPMDamaged checks a database of which the library reads the beginning without an error.
func TestRPMDamaged(t *testing.T) {
	t.Parallel()
	whole := []byte(modelFile(t, "os/rpm/testdata/rpmdb.sqlite"))
	all := len(walkFiles(t, map[string]string{"var/lib/rpm/rpmdb.sqlite": string(whole)}).packages)
	less := 0
	for i := len(whole) / 4; i < len(whole); i += len(whole) / 4 {
		damaged := append([]byte(nil), whole...)
		clear(damaged[i : i+len(whole)/16])
		got := walkFiles(t, map[string]string{"var/lib/rpm/rpmdb.sqlite": string(damaged)})
		if len(got.packages) < all {
			less++
			if len(got.warnings) != 1 {
				t.Errorf("from %d: %d packages of %d, %q", i, len(got.packages), all, got.warnings)
			}
		}
	}
	if less == 0 {
		t.Error("no damage hid a package")
	}
}
