//go:build cluster

package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/micabuild/mica/test/cluster/plane"
)

// kubernetes is a control plane, containerd and a kubelet on this host.
type kubernetes struct {
	*plane.Plane
	runtime *exec.Cmd // containerd
}

// startKubernetes starts all programs with files in dir.
func startKubernetes(dir string) (_ *kubernetes, err error) {
	p, err := plane.Start(plane.Options{Dir: dir, Users: []plane.User{{Name: "node", Account: "system:node:node1", Group: "system:nodes"}}})
	if err != nil {
		return nil, err
	}
	k := &kubernetes{Plane: p}
	defer func() {
		if err != nil {
			k.stop()
		}
	}()
	if err := k.configure(); err != nil {
		return nil, err
	}
	return k, k.node()
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

// configure writes the files of configuration of the node.
func (k *kubernetes) configure() error {
	errs := []error{os.Mkdir(k.At("cni"), 0o755)}
	for name, text := range map[string]string{"containerd.toml": containerdConfig, "kubelet.yaml": kubeletConfig, "cni/10-bridge.conflist": network} {
		text = strings.NewReplacer("DIR", k.Dir, "BIN", filepath.Dir(plane.Program("runc")), "IP", k.IP).Replace(text)
		errs = append(errs, os.WriteFile(k.At(name), []byte(text), 0o600))
	}
	return errors.Join(errs...)
}

func (k *kubernetes) node() (err error) {
	if k.runtime, err = k.Run("containerd", "-c", k.At("containerd.toml")); err != nil {
		return err
	}
	if err := k.Wait("containerd", func() bool { return k.ctr("version") == nil }); err != nil {
		return err
	}
	_, err = k.Run("kubelet", "--config", k.At("kubelet.yaml"), "--kubeconfig", k.At("node.kubeconfig"), "--hostname-override", "node1", "--node-ip", k.IP,
		"--root-dir", k.At("kubelet"), "--cert-dir", k.At("certs/kubelet"))
	if err != nil {
		return err
	}
	return k.Wait("the node", func() bool {
		out, err := k.Kubectl("get", "node", "node1").Output()
		if err != nil || !strings.Contains(string(out), " Ready") {
			return false
		}
		return k.Kubectl("get", "serviceaccount", "default").Run() == nil
	})
}

func (k *kubernetes) ctr(args ...string) error {
	out, err := exec.Command(plane.Program("ctr"), append([]string{"-a", k.At("run/containerd.sock"), "-n", "k8s.io"}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ctr %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// stop ends all programs and containers, and unmounts what they have mounted. containerd is the last program: it removes the containers.
func (k *kubernetes) stop() {
	for _, cmd := range slices.Backward(k.Running()) {
		if cmd != k.runtime {
			k.End(cmd)
		}
	}
	if k.runtime != nil {
		script := `for c in $(CTR tasks ls -q); do CTR tasks rm -f "$c"; done; for c in $(CTR containers ls -q); do CTR containers rm "$c"; done`
		ctr := fmt.Sprintf("%s -a %s -n k8s.io", plane.Program("ctr"), k.At("run/containerd.sock"))
		_ = exec.Command("sh", "-c", strings.ReplaceAll(script, "CTR", ctr)).Run()
		k.End(k.runtime)
	}
	_ = exec.Command("sh", "-c", `pkill -f "$1/run/containerd.sock"; grep -o "$1[^ ]*" /proc/mounts | sort -r | while read m; do umount -l "$m"; done; ip link delete micatest0`, "sh", k.Dir).Run()
}
