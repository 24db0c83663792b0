//go:build cluster

package cluster

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
	"strings"
	"syscall"
	"time"

	"github.com/micabuild/mica/test/rig"
)

// kubernetes is a control plane, containerd and a kubelet on this host.
type kubernetes struct {
	dir, ip    string // its files; the address of the node
	kubeconfig string
	running    []*exec.Cmd // in the order of their starts
}

const (
	apiPort  = "6443"
	etcdPort = "23790"
	peerPort = "23800"
)

func program(name string) string { return filepath.Join(rig.Top(), "bin", "cluster", name) }

// startKubernetes starts all programs with files in dir.
func startKubernetes(dir string) (_ *kubernetes, err error) {
	k := &kubernetes{dir: dir, kubeconfig: filepath.Join(dir, "admin.kubeconfig")}
	defer func() {
		if err != nil {
			k.stop()
		}
	}()
	if k.ip, err = hostAddress(); err != nil {
		return nil, err
	}
	if err := k.configure(); err != nil {
		return nil, err
	}
	if err := k.controlPlane(); err != nil {
		return nil, err
	}
	if err := k.node(); err != nil {
		return nil, err
	}
	return k, nil
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

const containerdConfig = `version = 3
root = "DIR/containerd"
state = "DIR/run/containerd"
[grpc]
  address = "DIR/run/containerd.sock"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "docker.io/library/pause:1"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["/usr/lib/cni"]
  conf_dir = "DIR/cni"
[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = "runc"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  BinaryName = "BIN/runc"
  SystemdCgroup = false
`

const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
address: IP
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
containerRuntimeEndpoint: unix://DIR/run/containerd.sock
imageServiceEndpoint: unix://DIR/run/containerd.sock
failSwapOn: false
resolvConf: /etc/resolv.conf
evictionHard: {memory.available: "100Mi", nodefs.available: "1%", imagefs.available: "1%", nodefs.inodesFree: "1%"}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
podLogsDir: DIR/podlogs
readOnlyPort: 0
healthzPort: 0
`

const network = `{"cniVersion":"1.0.0","name":"mica","plugins":[{"type":"bridge","bridge":"micatest0","isGateway":true,"ipMasq":true,"hairpinMode":true,
"ipam":{"type":"host-local","ranges":[[{"subnet":"10.245.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}],"dataDir":"DIR/run/ipam"}}]}`

const kubeconfig = `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:` + apiPort + `", insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: TOKEN}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
current-context: c
`

// users are those of the API server: their tokens are their names.
var users = map[string]string{"admin": "system:masters", "node": "system:nodes", "kcm": "", "sched": ""}

var accounts = map[string]string{"admin": "admin", "node": "system:node:node1", "kcm": "system:kube-controller-manager", "sched": "system:kube-scheduler"}

// configure writes the files of configuration.
func (k *kubernetes) configure() error {
	var errs []error
	write := func(name, text string) {
		text = strings.NewReplacer("DIR", k.dir, "BIN", filepath.Dir(program("runc")), "IP", k.ip).Replace(text)
		errs = append(errs, os.WriteFile(filepath.Join(k.dir, name), []byte(text), 0o600))
	}
	for _, d := range []string{"run", "cni", "certs", "log"} {
		errs = append(errs, os.Mkdir(filepath.Join(k.dir, d), 0o755))
	}
	write("containerd.toml", containerdConfig)
	write("kubelet.yaml", kubeletConfig)
	write("cni/10-bridge.conflist", network)
	tokens := ""
	for name, group := range users {
		tokens += strings.TrimSuffix(fmt.Sprintf("token-of-%s,%s,%s,%s", name, accounts[name], name, group), ",") + "\n"
		write(name+".kubeconfig", strings.ReplaceAll(kubeconfig, "TOKEN", "token-of-"+name))
	}
	write("tokens.csv", tokens)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	raw := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	return errors.Join(append(errs, os.WriteFile(k.at("sa.key"), raw, 0o600))...)
}

// start starts a program, whose output goes to a file.
func (k *kubernetes) start(name string, args ...string) error {
	log, err := os.Create(filepath.Join(k.dir, "log", name))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(program(name), args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(program(name))+":"+os.Getenv("PATH"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%w: run the test by make cluster-test", err)
	}
	k.running = append(k.running, cmd)
	return nil
}

func (k *kubernetes) at(name string) string { return filepath.Join(k.dir, name) }

func (k *kubernetes) controlPlane() error {
	etcd := "http://127.0.0.1:" + etcdPort
	if err := k.start("etcd", "--data-dir", k.at("etcd"), "--listen-client-urls", etcd, "--advertise-client-urls", etcd, "--listen-peer-urls", "http://127.0.0.1:"+peerPort, "--unsafe-no-fsync"); err != nil {
		return err
	}
	err := k.start("kube-apiserver", "--etcd-servers="+etcd, "--bind-address=127.0.0.1", "--secure-port="+apiPort, "--advertise-address="+k.ip,
		"--endpoint-reconciler-type=none", "--cert-dir="+k.at("certs"), "--service-cluster-ip-range=10.96.0.0/16", "--token-auth-file="+k.at("tokens.csv"),
		"--authorization-mode=Node,RBAC", "--service-account-key-file="+k.at("sa.key"), "--service-account-signing-key-file="+k.at("sa.key"),
		"--service-account-issuer=https://mica", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true", "--kubelet-preferred-address-types=InternalIP")
	if err != nil {
		return err
	}
	if err := k.wait("the API server", k.apiReady); err != nil {
		return err
	}
	if err := k.start("kube-controller-manager", "--kubeconfig="+k.at("kcm.kubeconfig"), "--use-service-account-credentials=true",
		"--service-account-private-key-file="+k.at("sa.key"), "--leader-elect=false", "--bind-address=127.0.0.1"); err != nil {
		return err
	}
	return k.start("kube-scheduler", "--kubeconfig="+k.at("sched.kubeconfig"), "--leader-elect=false", "--bind-address=127.0.0.1")
}

func (k *kubernetes) apiReady() bool {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // a server of this test
	req, err := http.NewRequest(http.MethodGet, "https://127.0.0.1:"+apiPort+"/readyz", nil)
	if err != nil {
		return false
	}
	req.Header.Set("Authorization", "Bearer token-of-admin")
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode == http.StatusOK
}

func (k *kubernetes) node() error {
	if err := k.start("containerd", "-c", k.at("containerd.toml")); err != nil {
		return err
	}
	if err := k.wait("containerd", func() bool { return k.ctr("version") == nil }); err != nil {
		return err
	}
	if err := k.start("kubelet", "--config", k.at("kubelet.yaml"), "--kubeconfig", k.at("node.kubeconfig"), "--hostname-override", "node1", "--node-ip", k.ip,
		"--root-dir", k.at("kubelet"), "--cert-dir", k.at("certs/kubelet")); err != nil {
		return err
	}
	return k.wait("the node", func() bool {
		out, err := k.kubectl("get", "node", "node1").Output()
		if err != nil || !strings.Contains(string(out), " Ready") {
			return false
		}
		return k.kubectl("get", "serviceaccount", "default").Run() == nil
	})
}

// wait waits until something holds.
func (k *kubernetes) wait(what string, holds func() bool) error {
	for deadline := time.Now().Add(time.Minute); ; {
		if holds() {
			return nil
		}
		if time.Now().After(deadline) {
			last, _ := exec.Command("sh", "-c", `tail -n 5 "$1"/*`, "sh", k.at("log")).Output()
			return fmt.Errorf("%s is not ready:\n%s", what, last)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (k *kubernetes) kubectl(args ...string) *exec.Cmd {
	return exec.Command(program("kubectl"), append([]string{"--kubeconfig", k.kubeconfig}, args...)...)
}

func (k *kubernetes) ctr(args ...string) error {
	out, err := exec.Command(program("ctr"), append([]string{"-a", k.at("run/containerd.sock"), "-n", "k8s.io"}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ctr %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// stop ends all programs and containers, and unmounts what they have mounted.
func (k *kubernetes) stop() {
	end := func(cmd *exec.Cmd) {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		killed := time.AfterFunc(10*time.Second, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
		_ = cmd.Wait()
		killed.Stop()
	}
	var runtime *exec.Cmd
	for i := len(k.running) - 1; i >= 0; i-- {
		if cmd := k.running[i]; filepath.Base(cmd.Path) == "containerd" {
			runtime = cmd
		} else {
			end(cmd)
		}
	}
	if runtime != nil {
		script := `for c in $(CTR tasks ls -q); do CTR tasks rm -f "$c"; done; for c in $(CTR containers ls -q); do CTR containers rm "$c"; done`
		ctr := fmt.Sprintf("%s -a %s -n k8s.io", program("ctr"), k.at("run/containerd.sock"))
		_ = exec.Command("sh", "-c", strings.ReplaceAll(script, "CTR", ctr)).Run()
		end(runtime)
	}
	_ = exec.Command("sh", "-c", `pkill -f "$1/run/containerd.sock"; grep -o "$1[^ ]*" /proc/mounts | sort -r | while read m; do umount -l "$m"; done; ip link delete micatest0`, "sh", k.dir).Run()
}
