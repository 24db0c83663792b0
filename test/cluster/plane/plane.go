//go:build e2e || cluster

// Package plane starts the control plane of a Kubernetes on this host: etcd, the API server, the controllers and the scheduler. It has no nodes.
package plane

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/micabuild/mica/test/rig"
)

// User may ask the API server. Its token is "token-of-" and its name.
type User struct {
	Name    string // of its kubeconfig
	Account string // as the API server knows it
	Group   string // "" for none
}

// users are those of every control plane.
var users = []User{
	{"admin", "admin", "system:masters"}, {"kcm", "system:kube-controller-manager", ""}, {"sched", "system:kube-scheduler", ""},
}

// Options describe a control plane.
type Options struct {
	// Dir is an empty directory for its files.
	Dir string
	// Users are more of them.
	Users []User
	// APIServer are more arguments of the API server, Controllers of the controller manager.
	APIServer, Controllers []string
}

// Plane is a control plane, and programs that were started with it.
type Plane struct {
	Dir        string // its files
	IP         string // an address of this host
	Kubeconfig string // of the administrator
	api        string // host:port
	running    []*exec.Cmd
}

// Program is the path of one of the programs that scripts/cluster-programs makes.
func Program(name string) string { return filepath.Join(rig.Top(), "bin", "cluster", name) }

// Start starts a control plane and waits until its API server answers.
func Start(o Options) (_ *Plane, err error) {
	p := &Plane{Dir: o.Dir, Kubeconfig: filepath.Join(o.Dir, "admin.kubeconfig")}
	defer func() {
		if err != nil {
			p.Stop()
		}
	}()
	if p.IP, err = hostAddress(); err != nil {
		return nil, err
	}
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	p.api = "127.0.0.1:" + ports[0]
	if err := p.configure(append(slices.Clone(users), o.Users...)); err != nil {
		return nil, err
	}
	return p, p.start(&o, ports)
}

// hostAddress is an address of this host that is not loopback: no node has that.
func hostAddress() (string, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			return n.IP.String(), nil
		}
	}
	return "", errors.New("this host has no address but loopback")
}

func freePorts(n int) (ports []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }() // all at once, so that no two are the same
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	return ports, nil
}

const kubeconfig = `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://API", insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: TOKEN}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
current-context: c
`

// configure writes the files of configuration.
func (p *Plane) configure(users []User) error {
	var errs []error
	for _, d := range []string{"run", "certs", "log"} {
		errs = append(errs, os.Mkdir(p.At(d), 0o755))
	}
	tokens := ""
	for _, u := range users {
		tokens += strings.TrimSuffix(fmt.Sprintf("%s,%s,%s,%s", u.token(), u.Account, u.Name, u.Group), ",") + "\n"
		text := strings.NewReplacer("API", p.api, "TOKEN", u.token()).Replace(kubeconfig)
		errs = append(errs, os.WriteFile(p.At(u.Name+".kubeconfig"), []byte(text), 0o600))
	}
	errs = append(errs, os.WriteFile(p.At("tokens.csv"), []byte(tokens), 0o600))
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	raw := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	return errors.Join(append(errs, os.WriteFile(p.At("sa.key"), raw, 0o600))...)
}

func (u User) token() string { return "token-of-" + u.Name }

// At is the path of a file.
func (p *Plane) At(name string) string { return filepath.Join(p.Dir, name) }

// start starts the programs of a control plane.
func (p *Plane) start(o *Options, ports []string) error {
	etcd, peer := "http://127.0.0.1:"+ports[1], "http://127.0.0.1:"+ports[2]
	_, err := p.Run("etcd", "--data-dir", p.At("etcd"), "--listen-client-urls", etcd, "--advertise-client-urls", etcd, "--listen-peer-urls", peer, "--unsafe-no-fsync")
	if err != nil {
		return err
	}
	_, err = p.Run("kube-apiserver", append([]string{
		"--etcd-servers=" + etcd, "--bind-address=127.0.0.1", "--secure-port=" + ports[0], "--advertise-address=" + p.IP,
		"--endpoint-reconciler-type=none", "--cert-dir=" + p.At("certs"), "--service-cluster-ip-range=10.96.0.0/16", "--token-auth-file=" + p.At("tokens.csv"),
		"--authorization-mode=Node,RBAC", "--service-account-key-file=" + p.At("sa.key"), "--service-account-signing-key-file=" + p.At("sa.key"),
		"--service-account-issuer=https://mica", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true", "--kubelet-preferred-address-types=InternalIP",
	}, o.APIServer...)...)
	if err != nil {
		return err
	}
	if err := p.Wait("the API server", p.ready); err != nil {
		return err
	}
	_, err = p.Run("kube-controller-manager", append([]string{
		"--kubeconfig=" + p.At("kcm.kubeconfig"), "--use-service-account-credentials=true", "--service-account-private-key-file=" + p.At("sa.key"),
		"--leader-elect=false", "--bind-address=127.0.0.1", "--secure-port=0",
	}, o.Controllers...)...)
	if err != nil {
		return err
	}
	_, err = p.Run("kube-scheduler", "--kubeconfig="+p.At("sched.kubeconfig"), "--leader-elect=false", "--bind-address=127.0.0.1", "--secure-port=0")
	return err
}

func (p *Plane) ready() bool {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequest(http.MethodGet, "https://"+p.api+"/readyz", nil)
	if err != nil {
		return false
	}
	req.Header.Set("Authorization", "Bearer "+users[0].token())
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode == http.StatusOK
}

// Run starts a program, which Stop ends. Its output goes to a file of log.
func (p *Plane) Run(name string, args ...string) (*exec.Cmd, error) {
	log, err := os.OpenFile(p.At(filepath.Join("log", name)), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(Program(name), args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(Program(name))+":"+os.Getenv("PATH"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w: make cluster-programs makes it", err)
	}
	p.running = append(p.running, cmd)
	return cmd, nil
}

// Running are the programs that run, in the order of their starts.
func (p *Plane) Running() []*exec.Cmd { return slices.Clone(p.running) }

// Wait waits until something holds.
func (p *Plane) Wait(what string, holds func() bool) error {
	for deadline := time.Now().Add(time.Minute); ; {
		if holds() {
			return nil
		}
		if time.Now().After(deadline) {
			last, _ := exec.Command("sh", "-c", `tail -n 5 "$1"/*`, "sh", p.At("log")).Output()
			return fmt.Errorf("%s is not ready:\n%s", what, last)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// Kubectl is a command of the administrator.
func (p *Plane) Kubectl(args ...string) *exec.Cmd {
	return exec.Command(Program("kubectl"), append([]string{"--kubeconfig", p.Kubeconfig}, args...)...)
}

// patience is how long a program has to end.
const patience = 10 * time.Second

// End ends a program that Run has started, with the others of its process group.
func (p *Plane) End(cmd *exec.Cmd) {
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
	killed := time.AfterFunc(patience, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	_ = cmd.Wait()
	killed.Stop()
	p.running = slices.DeleteFunc(p.running, func(other *exec.Cmd) bool { return other == cmd })
}

// Stop ends all programs, the last one first.
func (p *Plane) Stop() {
	for _, cmd := range slices.Backward(p.Running()) {
		p.End(cmd)
	}
}
