package engineapi

import (
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"
)

// TestCreateSettings: what Docker 29 refuses is refused with its status and its words, and what mica does not have with 501. Fields of the
// request are given as JSON: it may have what Docker's client never sends.
func TestCreateSettings(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.image("1", "app:latest")
	const bad, unsupported = http.StatusBadRequest, http.StatusNotImplemented
	for _, c := range []struct {
		fields string // of the container, and of its HostConfig below "HostConfig"
		status int
		says   string
	}{
		{`"Env":["=x"]`, bad, "invalid environment variable: =x"},
		{`"Env":[null]`, bad, "invalid environment variable: "},
		{`"Env":["a\u0000=b"]`, bad, `invalid environment variable: "a\x00=b" has a NUL byte`},
		{`"Cmd":["a\u0000"]`, bad, `invalid argument "a\x00": it has a NUL byte`},
		{`"Hostname":"` + strings.Repeat("a", 65) + `"`, bad, "(maximum 64 bytes)"},
		{`"WorkingDir":"a"`, bad, "the working directory 'a' is invalid, it needs to be an absolute path"},
		{`"StopSignal":"FOO"`, bad, "invalid signal: FOO"},
		{`"Healthcheck":{"Interval":-1}`, bad, "Interval in Healthcheck cannot be less than 1ms"},
		{`"Healthcheck":{"Timeout":100}`, bad, "Timeout in Healthcheck cannot be less than 1ms"},
		{`"Healthcheck":{"StartPeriod":5}`, bad, "StartPeriod in Healthcheck cannot be less than 1ms"},
		{`"Healthcheck":{"StartInterval":5}`, bad, "StartInterval in Healthcheck cannot be less than 1ms"},
		{`"Healthcheck":{"Retries":-1}`, bad, "Retries in Healthcheck cannot be negative"},
		{`"ExposedPorts":{"x/tcp":{}}`, bad, "invalid JSON"},
		{`"NetworkingConfig":{"EndpointsConfig":{"bridge":null}}`, bad, "invalid config for network bridge: EndpointsConfig is nil"},
		{`"HostConfig":[]`, bad, "invalid JSON"},
		{`"HostConfig":{"ShmSize":-1}`, bad, "SHM size can not be less than 0"},
		{`"HostConfig":{"CapAdd":["NOPE"]}`, bad, `invalid CapAdd: unknown capability: "CAP_NOPE"`},
		{`"HostConfig":{"CapDrop":[null]}`, bad, `invalid CapDrop: unknown capability: "CAP_"`},
		{`"HostConfig":{"Privileged":true,"CapAdd":["NOPE"]}`, bad, `invalid CapAdd: unknown capability: "CAP_NOPE"`},
		{`"HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"99999"}]}}`, bad, `invalid port specification: "99999"`},
		{`"HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"20-10"}]}}`, bad, `invalid port specification: "20-10"`},
		{`"HostConfig":{"PortBindings":{"0/tcp":[{"HostPort":"1"}]}}`, bad, `invalid port specification: "0/tcp"`},
		{`"HostConfig":{"PortBindings":{"":[null]}}`, bad, `invalid port specification: "invalid port"`},
		{`"HostConfig":{"PortBindings":{"80/sctp":[null]}}`, unsupported, "publish 80/sctp: the protocol sctp is not supported: use tcp or udp"},
		{`"HostConfig":{"Ulimits":[null]}`, bad, "invalid Ulimits: null is not a limit"},
		{`"HostConfig":{"BlkioWeightDevice":[null]}`, unsupported, "limits of single block devices are not supported"},
		{`"HostConfig":{"BlkioDeviceWriteIOps":[{"Path":"/dev/sda","Rate":1}]}`, unsupported, "limits of single block devices are not supported"},
		{`"HostConfig":{"CpuRealtimePeriod":5}`, unsupported, "limits of the real-time scheduler are not supported"},
		{`"HostConfig":{"CpuShares":-1}`, bad, "invalid CPU shares (-1): value must be a positive integer"},
		{`"HostConfig":{"NanoCpus":-1}`, bad, "range of CPUs is from 0.01 to"},
		{`"HostConfig":{"CpuPeriod":-1}`, bad, "CPU cfs period can not be less than 1ms"},
		{`"HostConfig":{"Memory":-1}`, bad, "Minimum memory limit allowed is 6MB"},
		{`"HostConfig":{"MemorySwappiness":-2}`, bad, "Invalid value: -2, valid memory swappiness range is 0-100"},
		{`"HostConfig":{"IOMaximumIOps":5}`, bad, "invalid option: QoS maximum IOPs configuration is not supported on linux"},
		{`"HostConfig":{"IOMaximumBandwidth":5}`, bad, "invalid option: QoS maximum bandwidth configuration is not supported on linux"},
		{`"HostConfig":{"OomScoreAdj":1001}`, bad, "Invalid value 1001, range for oom score adj is [-1000, 1000]"},
		{`"HostConfig":{"RestartPolicy":{"Name":"bogus"}}`, bad, "invalid restart policy: unknown policy 'bogus'"},
		{`"HostConfig":{"RestartPolicy":{"Name":"no","MaximumRetryCount":3}}`, bad, "invalid restart policy: maximum retry count can only be used with 'on-failure'"},
		{`"HostConfig":{"RestartPolicy":{"Name":"always"}}`, unsupported, "restart policies are not supported"},
		{`"HostConfig":{"AutoRemove":true,"RestartPolicy":{"Name":"always"}}`, bad, "can't create 'AutoRemove' container with restart policy"},
		{`"HostConfig":{"IpcMode":"x"}`, bad, "invalid IPC mode: x"},
		{`"HostConfig":{"IpcMode":"container:x"}`, unsupported, "the namespaces of another container are not supported"},
		{`"HostConfig":{"PidMode":"x"}`, bad, "invalid PID mode: x"},
		{`"HostConfig":{"UTSMode":"x"}`, bad, "invalid UTS mode: x"},
		{`"Hostname":"a","HostConfig":{"UTSMode":"host"}`, bad, "conflicting options: hostname and the UTS mode"},
		{`"HostConfig":{"CgroupnsMode":"x"}`, bad, "invalid cgroup namespace mode: x"},
		{`"HostConfig":{"NetworkMode":"container:"}`, bad, "invalid network mode: invalid container format container:<name|id>"},
		{`"HostConfig":{"Isolation":"hyperv"}`, bad, "invalid isolation (hyperv): linux only supports 'default'"},
		{`"HostConfig":{"Annotations":{"":"a"}}`, bad, "invalid Annotations: the empty string is not permitted as an annotation key"},
		{`"HostConfig":{"Runtime":"kata"}`, bad, "unknown or invalid runtime name: kata"},
		{`"HostConfig":{"Runtime":"io.containerd.runc.v2","Umask":63,"Annotations":{"a":"b"}}`, http.StatusCreated, ""},
		{`"HostConfig":{"Umask":512}`, bad, "invalid umask: 01000: it must be at most 0777"},
		{`"HostConfig":{"Binds":["v:/v:ro,rw"]}`, bad, "invalid mode: ro,rw"},
		{`"HostConfig":{"ExtraHosts":["x"]}`, bad, `bad format for add-host: "x"`},
		{`"HostConfig":{"Tmpfs":{"/":""}}`, bad, "invalid specification: destination can't be '/'"},
		{`"HostConfig":{"Tmpfs":{"a":""}}`, bad, "invalid mount path: 'a' mount path must be absolute"},
		{`"HostConfig":{"Binds":[null]}`, bad, "invalid volume specification: ''"},
		{`"HostConfig":{"Mounts":[null]}`, bad, `invalid mount config for type "": field Target must not be empty`},
		{`"HostConfig":{"Mounts":[{"Type":"volume","Target":"/a","BindOptions":{}}]}`, bad, `BindOptions must not be specified on mount type "volume"`},
		{`"HostConfig":{"Mounts":[{"Type":"tmpfs","Target":"/a","TmpfsOptions":{"Options":[null]}}]}`, bad, "invalid option array length"},
		{`"HostConfig":{"Mounts":[{"Type":"tmpfs","Target":"/a","TmpfsOptions":{"Options":[["bogus"]]}}]}`, bad, "invalid option: bogus"},
		{`"HostConfig":{"Mounts":[{"Type":"tmpfs","Target":"/a","TmpfsOptions":{"SizeBytes":-1}}]}`, bad, "invalid size of a tmpfs: -1"},
		{`"HostConfig":{"Mounts":[{"Type":"volume","Source":"v","Target":"/a","VolumeOptions":{"Subpath":"../x"}}]}`, bad, "subpath must be a relative path within the volume"},
		{`"HostConfig":{"Mounts":[{"Type":"bind","Source":"/","Target":"/a","BindOptions":{"ReadOnlyNonRecursive":true}}]}`, bad, "mount options conflict: !ReadOnly && BindOptions.ReadOnlyNonRecursive"},
		{`"HostConfig":{"Devices":[null]}`, bad, "bad format for path: "},
		{`"HostConfig":{"DeviceRequests":[{"Count":1099511627776}]}`, bad, "invalid count (1099511627776)"},
		{`"HostConfig":{"LogConfig":{"Config":{"bogus":"1"}}}`, bad, "unknown log opt 'bogus' for json-file log driver"},
		{`"HostConfig":null,"NetworkingConfig":null,"Labels":null,"Volumes":null,"ExposedPorts":null,"Healthcheck":null`, http.StatusCreated, ""},
		{`"HostConfig":{"Sysctls":null,"Tmpfs":null,"Mounts":null,"LogConfig":null,"RestartPolicy":null,"PortBindings":{"80/tcp":null}}`, http.StatusCreated, ""},
	} {
		got, body := r.do(http.MethodPost, "/v1.56/containers/create", strings.NewReader(withFields(t, c.fields)), "Content-Type", "application/json")
		if got.StatusCode != c.status || !strings.Contains(errorText(body), c.says) {
			t.Errorf("%s: %d %s, want %d %s", c.fields, got.StatusCode, body, c.status, c.says)
		}
	}
	if got, body := r.do(http.MethodPost, "/containers/create", strings.NewReader(`{"Image":"app"} {}`)); got.StatusCode != bad || errorText(body) != "unexpected content after JSON" {
		t.Errorf("two documents: %d %s", got.StatusCode, body)
	}
}

// withFields is a request for a container with some fields beside its image and command.
func withFields(t *testing.T, fields string) string {
	t.Helper()
	request := map[string]json.RawMessage{"Image": json.RawMessage(`"app"`), "Cmd": json.RawMessage(`["run"]`)}
	var given map[string]json.RawMessage
	if err := json.Unmarshal([]byte("{"+fields+"}"), &given); err != nil {
		t.Fatalf("%s: %v", fields, err)
	}
	maps.Copy(request, given)
	data, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// errorText is the message of an error, "" for another answer.
func errorText(body string) string {
	var e struct{ Message string }
	_ = json.Unmarshal([]byte(body), &e)
	return e.Message
}
