package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// helperName is argv[0] of the helper process: this program, started again as root of the namespaces.
const helperName = "mica-network"

// mayRestart is set by Init. A program that does not call Init must not start itself as a helper: it would do its work again,
// and start helpers endlessly.
var mayRestart bool

// Init runs the helper process and does not return, if args name it. It is called first thing.
func Init(args []string) {
	mayRestart = true
	if len(args) != 2 || args[0] != helperName {
		return
	}
	if err := helperMain(args[1]); err != nil {
		fmt.Fprint(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// resultFD is the socket on which the helper process returns the namespaces.
const resultFD = 3

// runHelper starts the helper process and takes the namespaces that it makes.
func (n *Namespace) runHelper(o Options) error {
	if !mayRestart {
		return errors.New("this program does not call network.Init")
	}
	arg, err := json.Marshal(n.plan)
	if err != nil {
		return err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(pair[0]) }()
	theirs := os.NewFile(uintptr(pair[1]), "result")
	defer func() { _ = theirs.Close() }()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args, cmd.Env, cmd.Dir = []string{helperName, string(arg)}, []string{}, "/"
	cmd.ExtraFiles, cmd.SysProcAttr = []*os.File{theirs}, o.attributes()
	if err := runQuoting(cmd); err != nil {
		return err
	}
	n.router, n.inner, err = receive(pair[0])
	return err
}

// runQuoting runs a command and returns the last line of its stderr if it fails. Its background processes may keep stderr open.
func runQuoting(cmd *exec.Cmd) error {
	fd, err := unix.MemfdCreate("stderr", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	stderr := os.NewFile(uintptr(fd), "stderr")
	defer func() { _ = stderr.Close() }()
	cmd.Stderr = stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if err == nil || !errors.As(err, &exit) {
		return err
	}
	text, _ := io.ReadAll(io.NewSectionReader(stderr, 0, 4096))
	if line := lastLine(string(text)); line != "" {
		return errors.New(line)
	}
	return err
}

// lastLine returns the last line of stderr that is not about the system's log.
func lastLine(text string) string {
	var last string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "Failed to send") {
			last = line
		}
	}
	return last
}

// receive returns the router's namespace and that of the processes.
func receive(socket int) (router, inner *os.File, err error) {
	oob := make([]byte, unix.CmsgSpace(2*4))
	_, n, _, _, err := unix.Recvmsg(socket, make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, nil, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return nil, nil, errors.Join(err, errors.New("no namespaces were made"))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 2 {
		return nil, nil, errors.Join(err, errors.New("no namespaces were made"))
	}
	return os.NewFile(uintptr(fds[0]), "router"), os.NewFile(uintptr(fds[1]), "network"), nil
}

// helperMain makes the namespaces, starts pasta in the router's, connects them, and sends them to mica.
func helperMain(arg string) error {
	var p plan
	if err := json.Unmarshal([]byte(arg), &p); err != nil {
		return err
	}
	unix.CloseOnExec(resultFD)
	router, err := pinNamespace()
	if err != nil {
		return err
	}
	inner, err := pinNamespace()
	if err != nil {
		return err
	}
	connected := make(chan error, 1)
	go func() { connected <- p.connect(router.file, inner.file) }()
	if !p.Offline {
		if err := p.startPasta(router.path); err != nil {
			return err
		}
		if err := inside(router.file, p.openUplink); err != nil {
			return err
		}
	}
	if err := <-connected; err != nil {
		return err
	}
	for name, ns := range map[string]*os.File{innerName: inner.file, insideName: router.file} {
		if err := inside(ns, func() error { return awaitCarrier(name) }); err != nil {
			return err
		}
	}
	rights := unix.UnixRights(int(router.file.Fd()), int(inner.file.Fd()))
	return unix.Sendmsg(resultFD, []byte{0}, rights, nil, 0)
}

// pinned is a namespace and its path for other processes, which is valid while this process runs.
type pinned struct {
	file *os.File
	path string
}

// pinNamespace makes a network namespace with an idle thread in it.
func pinNamespace() (pinned, error) {
	type result struct {
		pinned
		error
	}
	made := make(chan result)
	go func() {
		runtime.LockOSThread()
		p, err := unshareNetwork()
		made <- result{p, err}
		if err == nil {
			select {}
		}
	}()
	r := <-made
	return r.pinned, r.error
}

func unshareNetwork() (p pinned, err error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return p, fmt.Errorf("make a network namespace: %w", err)
	}
	if p.file, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return p, err
	}
	// The thread's id in the pid namespace of /proc, which may differ from that of this process.
	self, err := os.Readlink("/proc/thread-self")
	if err != nil {
		return p, err
	}
	// Debian's profile of AppArmor lets pasta open /proc/[0-9]*/ns/net alone.
	p.path = "/proc/" + path.Base(self) + "/ns/net"
	// Pasta drops most capabilities, and may then only inspect threads that have no more.
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	return p, unix.Capset(&header, &none[0])
}

// Names of interfaces: the router's two and that of the processes, which has Docker's name.
const (
	uplinkName = "uplink"
	insideName = "inside"
	innerName  = "eth0"
)

// startPasta starts pasta in the background, without incoming ports and without the host's loopback.
func (p plan) startPasta(netns string) error {
	args := []string{
		"--netns", netns, "--no-netns-quit", "--quiet", "--ns-ifname", uplinkName,
		"--no-map-gw", "-t", "none", "-u", "none", "-T", "none", "-U", "none",
		"--no-dhcp", "--no-dhcpv6", "--no-ra", "--dns", "none", "--address", p.Address4.String(),
	}
	switch {
	case !p.Address6.IsValid():
		args = append(args, "--ipv4-only")
	case !p.IPv4:
		args = append(args, "--ipv6-only")
	}
	if p.Address6.IsValid() {
		args = append(args, "--address", p.Address6.String())
	}
	cmd := exec.Command(p.Pasta, args...)
	cmd.Env, cmd.Dir = []string{}, "/"
	if err := runQuoting(cmd); err != nil {
		return fmt.Errorf("start pasta: %w", err)
	}
	return nil
}

// connect makes the link between the two namespaces, and the router's rules.
func (p plan) connect(router, inner *os.File) error {
	err := inside(inner, func() error { return errors.Join(p.useAtOnce(), setUp("lo")) })
	if err != nil {
		return err
	}
	if err := inside(router, func() error { return p.openInside(inner) }); err != nil {
		return err
	}
	return inside(inner, func() error {
		if err := setUp(innerName); err != nil {
			return err
		}
		return p.eachFamily(func(address, gateway netip.Addr, bits int) error {
			if err := addAddress(innerName, netip.PrefixFrom(address, bits)); err != nil {
				return err
			}
			return addDefault(innerName, gateway)
		})
	})
}

func (p plan) eachFamily(do func(address, gateway netip.Addr, bits int) error) error {
	if err := do(p.Address4, p.Gateway4, prefix4); err != nil || !p.Address6.IsValid() {
		return err
	}
	return do(p.Address6, p.Gateway6, prefix6)
}

// useAtOnce turns off the detection of duplicate IPv6 addresses, for which interfaces would wait.
func (p plan) useAtOnce() error {
	if !p.Address6.IsValid() {
		return nil
	}
	return errors.Join(setSysctl("ipv6/conf/all/accept_dad", "0"), setSysctl("ipv6/conf/default/accept_dad", "0"))
}

// openInside makes the router's side of the link. The kernel forwards nothing to IPv4's loopback and 0.0.0.0. Their IPv6 forms,
// which are loopback for a socket of pasta as well, must be forbidden.
func (p plan) openInside(inner *os.File) error {
	if err := errors.Join(p.useAtOnce(), setSysctl("ipv4/ip_forward", "1")); err != nil {
		return err
	}
	if p.Address6.IsValid() {
		if err := setSysctl("ipv6/conf/all/forwarding", "1"); err != nil {
			return err
		}
	}
	if err := errors.Join(setUp("lo"), addPair(insideName, innerName, inner)); err != nil {
		return err
	}
	if err := setUp(insideName); err != nil {
		return err
	}
	err := p.eachFamily(func(_, gateway netip.Addr, bits int) error {
		return addAddress(insideName, netip.PrefixFrom(gateway, bits))
	})
	if err != nil || !p.Address6.IsValid() {
		return err
	}
	return errors.Join(forbid(netip.MustParsePrefix("::/96")), forbid(mapped))
}

// mapped are the IPv4-mapped IPv6 addresses (RFC 4291, 2.5.5.2).
var mapped = netip.PrefixFrom(netip.AddrFrom16([16]byte{10: 0xff, 11: 0xff}), 96)

// openUplink routes all other addresses to pasta, which answers neighbour requests for every address.
func (p plan) openUplink() error {
	if err := setUp(uplinkName, number(unix.IFLA_MTU, mtu)); err != nil {
		return err
	}
	if p.IPv4 {
		if err := addDefault(uplinkName, netip.MustParseAddr("169.254.1.1")); err != nil {
			return err
		}
	}
	if !p.Address6.IsValid() {
		return nil
	}
	return addDefault(uplinkName, netip.MustParseAddr("fe80::1"))
}
