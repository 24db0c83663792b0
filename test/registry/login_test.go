//go:build e2e

package registry

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// closed starts a docker-registry over TLS, for those who have the password.
func closed(t *testing.T) *rig.SecureRegistry {
	t.Helper()
	s, err := rig.StartSecureRegistry(rig.TempDir(t))
	if err != nil {
		t.Fatal(err)
	}
	started(t, &s.Registry, nil)
	return s
}

func basic(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
}

// authFile is a file of credentials for a registry.
func authFile(host, user, password string) string {
	return fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, basic(user, password))
}

// login logs in, as rig.User unless told otherwise.
func (c *client) login(host, password string) rig.Output {
	c.t.Helper()
	return c.Try(strings.NewReader(password+"\n"), "login", "-u", rig.User, "--password-stdin", host)
}

func TestLoginOpensARegistryAndLogoutClosesIt(t *testing.T) {
	s := closed(t)
	name := s.Addr + "/app:1"
	c := newClient(t)
	c.Env = append(c.Env, "MICA_CERTS_D="+s.CertsD)
	c.build("one", name)
	c.refuses(`denied|authentication|unauthorized`, "push", name)
	c.refuses(`denied|authentication|unauthorized`, "pull", name)
	c.refuses(`denied|authentication|unauthorized`, "catalog", s.Addr)

	config := filepath.Join(c.home, "docker", "config.json")
	if out := c.login(s.Addr, "wrong"); out.Code != 1 || !strings.Contains(out.Stderr, "401") && !strings.Contains(strings.ToLower(out.Stderr), "unauthorized") {
		t.Errorf("a wrong password: exit code %d, %q", out.Code, out.Stderr)
	}
	if data, err := os.ReadFile(config); err == nil && strings.Contains(string(data), s.Addr) {
		t.Errorf("a wrong password is kept: %s", data)
	}
	if out := c.login(s.Addr, rig.Password); out.Code != 0 || !strings.Contains(out.Stdout, "Login Succeeded") {
		t.Fatalf("login: exit code %d, %q %q", out.Code, out.Stdout, out.Stderr)
	}
	info, err := os.Stat(config)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the password is kept with mode %v, %v", info.Mode(), err)
	}
	var kept struct {
		Auths map[string]struct{ Auth string }
	}
	data, err := os.ReadFile(config)
	if err != nil || json.Unmarshal(data, &kept) != nil || kept.Auths[s.Addr].Auth != basic(rig.User, rig.Password) {
		t.Errorf("kept is %s, %v", data, err)
	}
	d := digestIn(t, c.says("push", name))
	c.Run("rmi", name)
	c.mustSay(`Digest: `+d, "pull", name)
	if got := c.Run("catalog", s.Addr); got != "app\n" {
		t.Errorf("catalog: %q", got)
	}
	c.mustSay(`Login Succeeded`, "login", s.Addr)
	c.mustSay(`Login Succeeded`, "login", "-u", rig.User, "-p", rig.Password, s.Addr)

	c.mustSay(`Removing login credentials for `+s.Addr, "logout", s.Addr)
	if data, err := os.ReadFile(config); err != nil || strings.Contains(string(data), basic(rig.User, rig.Password)) {
		t.Errorf("after logout there is %s, %v", data, err)
	}
	c.refuses(`denied|authentication|unauthorized`, "pull", name)
	c.mustSay(`Not logged in`, "logout", s.Addr)
}

func TestLoginKeepsWhatElseIsConfigured(t *testing.T) {
	s := closed(t)
	c := newClient(t)
	c.Env = append(c.Env, "MICA_CERTS_D="+s.CertsD)
	c.write("docker/config.json", `{"auths":{"other.example":{"auth":"b3RoZXI6b3RoZXI="}},"psFormat":"mine","unknownKey":{"a":[1,2]}}`)
	if out := c.login(s.Addr, rig.Password); out.Code != 0 {
		t.Fatal(out.Stderr)
	}
	c.Run("logout", s.Addr)
	data, err := os.ReadFile(filepath.Join(c.home, "docker", "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, kept := range []string{"b3RoZXI6b3RoZXI=", "other.example", `"psFormat": "mine"`} {
		if !strings.Contains(string(data), kept) {
			t.Errorf("%s is gone from %s", kept, data)
		}
	}
}

func TestUnknownAuthorityIsRefused(t *testing.T) {
	s := closed(t)
	c := newClient(t)
	c.write("docker/config.json", authFile(s.Addr, rig.User, rig.Password))
	c.refuses(`certificate`, "pull", s.Addr+"/app:1")
	if out := c.login(s.Addr, rig.Password); out.Code != 1 || !strings.Contains(out.Stderr, "certificate") {
		t.Errorf("login: exit code %d, %q", out.Code, out.Stderr)
	}
	// Told so, mica believes anybody's certificate.
	c.write("registries.conf", fmt.Sprintf("[[registry]]\nlocation = %q\ninsecure = true\n", s.Addr))
	c.refuses(`not found|unknown`, "pull", s.Addr+"/app:1")
}

// TestCertificatesAreFound: in each of the places that are searched for them.
func TestCertificatesAreFound(t *testing.T) {
	s := closed(t)
	ca, err := os.ReadFile(s.CA)
	if err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"docker's": "/etc/docker/certs.d", "podman's": "/etc/containers/certs.d", "the user's": ""} {
		c := newClient(t)
		c.write("docker/config.json", authFile(s.Addr, rig.User, rig.Password))
		if dir == "" {
			dir = filepath.Join(c.home, "config", "containers", "certs.d")
		}
		made := filepath.Join(dir, s.Addr)
		if err := os.MkdirAll(made, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(made, "ca.crt"), ca, 0o600); err != nil {
			t.Fatal(err)
		}
		out := c.Try(nil, "catalog", s.Addr)
		if err := os.RemoveAll(made); err != nil {
			t.Fatal(err)
		}
		_ = os.Remove(dir) // if it is empty
		if out.Code != 0 {
			t.Errorf("%s: %s", name, out.Stderr)
		}
	}
}

// TestCredentialsAreFound: in docker's file, in podman's, and with helpers.
func TestCredentialsAreFound(t *testing.T) {
	s := closed(t)
	bin := rig.TempDir(t)
	helper := fmt.Sprintf("#!/bin/sh\nread host\n[ \"$1\" = get ] && [ \"$host\" = %s ] || { echo credentials not found in native keychain; exit 1; }\n"+
		"echo '{\"ServerURL\":\"%[1]s\",\"Username\":\"%s\",\"Secret\":\"%s\"}'\n", s.Addr, rig.User, rig.Password)
	if err := os.WriteFile(filepath.Join(bin, "docker-credential-tests"), []byte(helper), 0o755); err != nil {
		t.Fatal(err)
	}
	good, bad := authFile(s.Addr, rig.User, rig.Password), authFile(s.Addr, rig.User, "wrong")
	for name, files := range map[string]map[string]string{
		"docker's file":               {"docker/config.json": good},
		"docker's before podman's":    {"docker/config.json": good, "config/containers/auth.json": bad},
		"helper for the host":         {"docker/config.json": fmt.Sprintf(`{"credHelpers":{%q:"tests"}}`, s.Addr)},
		"store for all":               {"docker/config.json": `{"credsStore":"tests"}`},
		"podman's at run time":        {"run/containers/auth.json": good},
		"podman's run time is first":  {"run/containers/auth.json": good, "config/containers/auth.json": bad},
		"podman's configuration":      {"config/containers/auth.json": good},
		"podman's for one repository": {"config/containers/auth.json": fmt.Sprintf(`{"auths":{%q:{"auth":%q},%q:{"auth":%q}}}`, s.Addr, basic("x", "y"), s.Addr+"/team", basic(rig.User, rig.Password))},
		"podman's by the environment": {"elsewhere.json": good},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t)
			c.Env = append(c.Env, "MICA_CERTS_D="+s.CertsD, "PATH="+bin+":"+os.Getenv("PATH"))
			for file, text := range files {
				c.write(file, text)
			}
			if files["elsewhere.json"] != "" {
				c.Env = append(c.Env, "REGISTRY_AUTH_FILE="+filepath.Join(c.home, "elsewhere.json"))
			}
			c.refuses(`not found`, "pull", s.Addr+"/team/app:1")
		})
	}
	c := newClient(t)
	c.Env = append(c.Env, "MICA_CERTS_D="+s.CertsD)
	c.refuses(`denied|unauthorized`, "pull", s.Addr+"/team/app:1")
}

func TestLoginAsksForNothingWithoutATerminal(t *testing.T) {
	s := closed(t)
	c := newClient(t)
	c.Env = append(c.Env, "MICA_CERTS_D="+s.CertsD)
	for _, args := range [][]string{{"login", s.Addr}, {"login", "-u", rig.User, s.Addr}, {"login", "--password-stdin", s.Addr}} {
		if out := c.Try(strings.NewReader(""), args...); out.Code != 1 || strings.Count(strings.TrimSpace(out.Stderr), "\n") != 0 {
			t.Errorf("%v: exit code %d, %q", args, out.Code, out.Stderr)
		}
	}
}
