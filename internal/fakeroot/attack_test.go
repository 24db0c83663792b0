package fakeroot

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// perl writes a program to the directory of the step.
func (s *step) perl(text string, args ...any) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, "a.pl"), fmt.Appendf(nil, text, args...), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// A step does not signal the supervisor by a directory of /proc, nor as the owner of a descriptor that gets signals.
func TestSignalsByDescriptors(t *testing.T) {
	s := newStep(t)
	s.perl(`use Fcntl;
use constant { SIGNAL => %d, OPEN => %d };
my $mica = %d;
open(my $dir, "<", "/proc/$mica") or die $!;
print syscall(SIGNAL, fileno($dir), 0, 0, 0), " ", $! + 0, "\n";
my $own = syscall(OPEN, $$ + 0, 0);
print syscall(SIGNAL, $own, 0, 0, 0), "\n";
pipe(my $r, my $w);
print fcntl($r, F_SETOWN, $mica) ? "yes" : "no", "\n";
print fcntl($r, 15, pack("ll", 1, $mica)) ? "yes" : "no", "\n";
print ioctl($r, 0x8901, pack("l", $mica)) ? "yes" : "no", "\n";
print fcntl($r, F_SETOWN, $$ + 0) ? "yes" : "no: $!", "\n";
`, unix.SYS_PIDFD_SEND_SIGNAL, unix.SYS_PIDFD_OPEN, os.Getpid())
	s.want("perl a.pl", "-1 3\n0\nno\nno\nno\nyes")
}

// The kernel looks at 32 bits of some arguments, and so does the filter: a process does not choose its own credentials.
func TestUpperBits(t *testing.T) {
	s := newStep(t)
	s.perl(`my $limit = pack("QQ", 1 << 60, ~0);
syscall(%d, 0, (1 << 32) | %d, $limit, 0);
exec "id", "-u";
`, unix.SYS_PRLIMIT64, tagLimit)
	s.want("setpriv --reuid 5 perl a.pl", "5")
}

// Credentials that a step makes do not use up the supervisor's memory.
func TestManyGroups(t *testing.T) {
	s := newStep(t)
	s.perl(`my $failed = 0;
for my $n (1 .. 20) { my $list = pack("L*", map { $_ + $n } 1 .. 65536); $failed++ if syscall(%d, 65536, $list) }
print $failed > 0 ? "limited" : "endless";
`, unix.SYS_SETGROUPS)
	s.want("perl a.pl", "limited")
}
