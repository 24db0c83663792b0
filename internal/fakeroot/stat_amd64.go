package fakeroot

import "golang.org/x/sys/unix"

func newStat(x *unix.Statx_t) unix.Stat_t {
	st := commonStat(x)
	st.Nlink, st.Blksize = uint64(x.Nlink), int64(x.Blksize)
	return st
}
