package containers

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/moby/moby/api/types/container"
)

// FuzzSettings: whatever a client asks for gets a process, or an error that says that the request is wrong.
func FuzzSettings(f *testing.F) {
	for _, seed := range []string{
		`{"Image":"a","Cmd":["a"]}`, `{"Image":"a","Cmd":["a"],"Env":["A=1"],"ExposedPorts":{"80/tcp":{}},"HostConfig":{"PublishAllPorts":true}}`,
		`{"Image":"a","Cmd":["a"],"HostConfig":{"Ulimits":[{"Name":"nofile","Soft":1,"Hard":2}],"Devices":[{"PathOnHost":"/dev/null"}]}}`,
		`{"Image":"a","Cmd":["a"],"HostConfig":{"PortBindings":{"80/tcp":[{"HostIp":"::1","HostPort":"8-9"}]},"Memory":8388608,"MemorySwap":-1}}`,
		`{"Image":"a","Cmd":["a"],"HostConfig":{"DeviceRequests":[{"Count":-1,"Capabilities":[["gpu"]]}],"SecurityOpt":["seccomp=unconfined"]}}`,
		`{"Image":"a","Cmd":["a"],"NetworkingConfig":{"EndpointsConfig":{"none":{"IPAMConfig":{"IPv4Address":"10.0.0.1"}}}},"HostConfig":{"NetworkMode":"none"}}`,
	} {
		f.Add(seed)
	}
	m := NewManager(Options{})
	f.Fuzz(func(t *testing.T, body string) {
		var req container.CreateRequest
		if json.Unmarshal([]byte(body), &req) != nil || req.Config == nil {
			t.Skip()
		}
		if req.HostConfig == nil {
			req.HostConfig = &container.HostConfig{}
		}
		o := CreateOptions{Config: req.Config, Host: req.HostConfig}
		if req.NetworkingConfig != nil {
			o.Networks = req.NetworkingConfig.EndpointsConfig
		}
		var typed *Error
		if err := settingsOf(m, o); err != nil && (!errors.As(err, &typed) || typed.Kind == 0) {
			t.Errorf("%s: %v", body, err)
		}
	})
}

// settingsOf does what Create does before it finds the image.
func settingsOf(m *Manager, o CreateOptions) error {
	c := &Container{ID: newID(), m: m, config: o.Config, host: o.Host}
	if err := c.check(); err != nil {
		return err
	}
	var err error
	if c.endpoints, err = m.join(o.Host.NetworkMode, o.Networks); err != nil {
		return err
	}
	if c.process, _, err = c.settings(); err != nil {
		return err
	}
	if _, err := c.published(); err != nil {
		return err
	}
	devices := c.devices()
	return invalid(devices.Check())
}
