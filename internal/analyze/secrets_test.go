package analyze

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const someToken = "ghp_abcdefghijklmnopqrstuvwxyz0123456789"

// TestSecrets: what is found where, and that no secret is in the report.
func TestSecrets(t *testing.T) {
	t.Parallel()
	const pem = `-----BEGIN\_PRIVATE\_KEY-----`
	img := made(t, strings.Join([]string{
		"root/.npmrc=//r/:_authToken=hunter2",
		"root/.ssh/id_rsa=" + pem,
		"root/.ssh/id_ed25519.pub=ssh-ed25519",
		"srv/.npmrc=registry=https://r",
		"srv/app.env=A=1\\nDB_PASSWORD=hunter2\\n",
		"srv/other.env=DB_PASSWORD=${DB_PASSWORD}",
		"srv/.env.example=DB_PASSWORD=hunter2",
		"srv/run.sh=" + someToken,
		"srv/run_test.go=" + someToken,
		"srv/node_modules/x/test.json=" + someToken,
		"usr/share/doc/x.txt=" + someToken,
		"srv/binary=" + someToken,
		"srv/keys.p12=x",
		"usr/lib/python3/test/keycert.pem=" + pem,
		"srv/keycert.pem=" + pem,
		"etc/shadow=root:*:1::::",
		"old/.netrc=machine",
	}, " "), "-root/.npmrc", "-root/.ssh")
	r := analyzed(t, img)
	var got []string
	for _, f := range r.Findings {
		got = append(got, fmt.Sprintf("%s %d: %s", f.Path, f.Step, f.Text))
	}
	want := []string{
		"root/.npmrc 1: the file holds credentials of npm, on line 1 (hidden by step 2, but still in the layer)",
		"root/.ssh/id_rsa 1: the file holds a private SSH key, on line 1 (hidden by step 3, but still in the layer)",
		"srv/app.env 1: the file holds a value for DB_PASSWORD, on line 2",
		"srv/keycert.pem 1: the file holds a private key, on line 1",
		"srv/keys.p12 1: the file holds a key store",
		"srv/run.sh 1: the file holds a token of GitHub, on line 1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	noSecrets(t, r, "hunter2", someToken)
}

func noSecrets(t *testing.T, r *Report, secrets ...string) {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range secrets {
		if strings.Contains(string(text), s) {
			t.Errorf("the report has %q: %s", s, text)
		}
	}
}

// TestSecretsUnread: files with the names of secrets are read however many others there are, and large ones, which are not read, do not
// keep others from being read. What is not read is counted.
func TestSecretsUnread(t *testing.T) {
	t.Parallel()
	files := []string{"a/big.key=2000000*x", "a/store.p12=2000000*x", "z/.npmrc=_authToken=hunter2"}
	for i := range maxConfigFiles + 3 {
		files = append(files, fmt.Sprintf("m/%d.js=x", i))
	}
	r := analyzed(t, made(t, strings.Join(files, " ")))
	var got []string
	for _, f := range r.Findings {
		if f.Kind == KindSecret {
			got = append(got, f.Path)
		}
	}
	if diff := cmp.Diff([]string{"a/store.p12", "z/.npmrc"}, got); diff != "" || r.SecretsUnread != 4 {
		t.Errorf("%d files were not read, want 4; %s", r.SecretsUnread, diff)
	}
}

func TestSecretIn(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ path, content, want string }{
		{"root/.ssh/id_rsa", "-----BEGIN OPENSSH PRIVATE KEY-----\nx", "a private SSH key 1"},
		{"root/.ssh/id_rsa", "nothing", ""},
		{"srv/tls.key", "# a\n-----BEGIN EC PRIVATE KEY-----", "a private key 2"},
		{"etc/ssl/ca.pem", "-----BEGIN CERTIFICATE-----", ""},
		{"root/.netrc", "machine h login u password p", "passwords for hosts 1"},
		{"root/.aws/credentials", "[default]\naws_secret_access_key = x", "credentials of AWS 2"},
		{"srv/credentials", "aws_secret_access_key = x", ""},
		{"root/.git-credentials", "https://u:p@host", "credentials of Git 1"},
		{"srv/.git/config", "url = https://host/r", ""},
		{"srv/.git/config", "url = https://u:p@host/r", "credentials of Git 1"},
		{"root/.docker/config.json", `{"auths":{"r":{"auth":"dTpw"}}}`, "credentials of registries 1"},
		{"root/.docker/config.json", `{"credsStore":"x"}`, ""},
		{"root/.kube/config", "users:\n- user:\n    token: x", "credentials of Kubernetes 3"},
		{"root/.pypirc", "[pypi]\npassword = x", "credentials of PyPI 2"},
		{"etc/pip.conf", "index-url = https://u:p@h/simple", "credentials in an index of pip 1"},
		{"root/.cargo/credentials.toml", "token = \"x\"", "credentials of Cargo 1"},
		{"srv/my-credentials.json", `{"private_key": "x"}`, "credentials of Google Cloud 1"},
		{"root/.m2/settings.xml", "<password>x</password>", "credentials of Maven 1"},
		{"root/.m2/settings.xml", "<password>${env.P}</password>", ""},
		{"root/.pgpass", "h:1:d:u:p", "passwords of PostgreSQL 1"},
		{"etc/shadow", "root:*:1:::\n", ""},
		{"etc/shadow", "root:$y$j9T$x:1:::\n", "a password hash 1"},
		{"run/secrets/token", "x", "a file of /run/secrets 0"},
		{"srv/a.json", "\n\"" + someToken + "\"", "a token of GitHub 2"},
		{"srv/a.json", "AKIAIOSFODNN7EXAMPLE", ""},
		{"srv/a.json", "AKIAIOSFODNN7EXAMPLE AKIAIOSFODNN7ABCDEFG", "an access key of AWS 1"},
		{"srv/a.json", "\x00" + someToken, ""},
		{"srv/a.py", "if '-----BEGIN PRIVATE KEY-----' in text:", ""},
		{"srv/a.py", "KEY = '-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANBgkqhkiG9w0BAQ", "a private key 1"},
		{"srv/a.yaml", "key: |\n  -----BEGIN RSA PRIVATE KEY-----\n  Proc-Type: 4,ENCRYPTED\n", "a private key 2"},
		{"etc/ssh/ssh_host_ed25519_key", "-----BEGIN OPENSSH PRIVATE KEY-----", "a private key of an SSH server 1"},
		{"etc/ssh/ssh_host_ed25519_key.pub", "ssh-ed25519 AAAA", ""},
		{"root/.config/gcloud/credentials.db", "x", "credentials of Google Cloud 0"},
		{"root/.nuget/NuGet/NuGet.Config", `<add key="ClearTextPassword" value="x" />`, "credentials of NuGet 1"},
		{"root/.nuget/NuGet/NuGet.Config", `<add key="ClearTextPassword" value="%TOKEN%" />`, ""},
		{"root/.ivy2/.credentials", "password = x", "credentials of sbt 1"},
		{"srv/db.env", "PGPASSWORD=x", "a value for PGPASSWORD 1"},
	} {
		name := test.path[strings.LastIndexByte(test.path, '/')+1:]
		f := knownSecretFiles().match(name, func() string { return test.path })
		got, at := secretIn(f, name, []byte(test.content))
		if got != "" {
			got = fmt.Sprintf("%s %d", got, at)
		}
		if got != test.want {
			t.Errorf("%s: %q has %q, want %q", test.path, test.content, got, test.want)
		}
	}
}

// findingTexts are the findings of a report with the numbers of their steps.
func findingTexts(r *Report) (list []string) {
	for _, f := range r.Findings {
		list = append(list, fmt.Sprintf("%d: %s", f.Step, f.Text))
	}
	return list
}

func TestConfigSecrets(t *testing.T) {
	t.Parallel()
	img := made(t, "a=a")
	img.Config.Config.Env = []string{"PATH=/bin", "DB_PASSWORD=hunter2", "URL=https://u:hunter2@h/", "GPG_KEY=A035C8C19219BA821ECEA86B64E628F8D684696D", "TOKEN_FILE=/run/secrets/t", "API_KEY="}
	img.Config.Config.Labels = map[string]string{"b": someToken, "a": "x"}
	img.Config.History = []ocispec.History{
		{CreatedBy: "ARG TOKEN=hunter2", EmptyLayer: true},
		{CreatedBy: "RUN |1 TOKEN=hunter2 /bin/sh -c curl -H 'Authorization: Bearer hunter2hunter2' https://h # buildkit"},
	}
	r := analyzed(t, img)
	got := findingTexts(r)
	want := []string{
		"0: the variable DB_PASSWORD holds a secret, as its name says",
		"0: the variable URL holds a password or token",
		"0: the label b holds a token of GitHub",
		"1: the command has a value for TOKEN in it",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	noSecrets(t, r, "hunter2", someToken)
}

// TestHistoryOfVariables: a variable that a later ENV empties is still in the history; one that the config has is said once.
func TestHistoryOfVariables(t *testing.T) {
	t.Parallel()
	img := made(t, "a=a")
	img.Config.Config.Env = []string{"NPM_TOKEN=", "DB_PASSWORD=hunter2", "GH=" + someToken}
	img.Config.Config.Labels = map[string]string{"secret": "hunter2"}
	img.Config.History = []ocispec.History{
		{CreatedBy: "ENV NPM_TOKEN=hunter2", EmptyLayer: true},
		{CreatedBy: "/bin/sh -c #(nop)  ENV DB_PASSWORD=hunter2 GH=" + someToken, EmptyLayer: true},
		{CreatedBy: "LABEL secret=hunter2", EmptyLayer: true},
		{CreatedBy: "ENV NPM_TOKEN=", EmptyLayer: true},
		{CreatedBy: "RUN /bin/sh -c x # buildkit"},
	}
	r := analyzed(t, img)
	got := findingTexts(r)
	want := []string{
		"0: the variable DB_PASSWORD holds a secret, as its name says",
		"0: the variable GH holds a token of GitHub",
		"0: the label secret holds a secret, as its name says",
		"1: the command has a value for NPM_TOKEN in it",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	noSecrets(t, r, "hunter2", someToken)
}

// TestReferences: a command that only says where a secret is has none.
func TestReferences(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"git clone https://$TOKEN@h/r", "git clone https://oauth2:${TOKEN}@h/r", "psql postgres://u:$PGPASSWORD@h/d", `curl -u "$USER:$PASSWORD" https://h`,
		"docker run -u 1000:1000 x", "mysql -p$PW", "make PASSWORD=$P", "cd /pwd; OLDPWD=/x", "grep -e '-----BEGIN PRIVATE KEY-----' f",
	} {
		if found := secretsIn(text); len(found) > 0 {
			t.Errorf("%s: %v", text, found)
		}
	}
}

func TestMaskText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"RUN make TOKEN=abc X=1":                                                      "RUN make TOKEN=***** X=1",
		`RUN curl --password "a b" -o x`:                                              `RUN curl --password ***** -o x`,
		"RUN curl -H 'Authorization: Bearer abcdefghijk'":                             "RUN curl -H 'Authorization: Bearer *****'",
		"RUN curl https://u:p@h":                                                      "RUN curl https://xxxxx:xxxxx@h",
		"RUN echo " + someToken:                                                       "RUN echo *****",
		"RUN --mount=type=secret,id=token cat $TOKEN":                                 "RUN --mount=type=secret,id=token cat $TOKEN",
		"RUN make TOKEN=$TOKEN KEY=/etc/key":                                          "RUN make TOKEN=$TOKEN KEY=/etc/key",
		"RUN PGPASSWORD=abc MYSQL_PWD=abc psql":                                       "RUN PGPASSWORD=***** MYSQL_PWD=***** psql",
		"RUN java -DapiKey=abc -Dsigning.passphrase=abc":                              "RUN java -DapiKey=***** -Dsigning.passphrase=*****",
		"RUN echo 'aws_secret_access_key = abc' >f":                                   "RUN echo 'aws_secret_access_key = *****' >f",
		`RUN printf '[d]\naws_access_key_id=abc\naws_secret_key = abc\n' >f`:          `RUN printf '[d]\naws_access_key_id=*****\naws_secret_key = *****\n' >f`,
		"RUN curl -sSu me:abc https://h && curl --user 'me:abc' https://h":            "RUN curl -sSu me:***** https://h && curl --user 'me:*****' https://h",
		"RUN sshpass -p abc ssh h; mysqldump -u me -pabc d":                           "RUN sshpass -p ***** ssh h; mysqldump -u me -p***** d",
		"ENV DB=postgres://me:abc@h/d CACHE=redis://:abc@h":                           "ENV DB=postgres://me:*****@h/d CACHE=redis://:*****@h",
		"RUN gpg --recv-keys A035C8C19219":                                            "RUN gpg --recv-keys A035C8C19219",
		"RUN printf '-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----' >k": "RUN printf '*****' >k",
	} {
		if got := MaskText(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

// FuzzMaskText: a token does not survive, and masking twice changes nothing.
func FuzzMaskText(f *testing.F) {
	f.Add("RUN ", " x")
	f.Add("TOKEN=\"", "\"")
	f.Add("--password '", "\xff")
	f.Fuzz(func(t *testing.T, before, after string) {
		text := before + " " + someToken + " " + after
		got := MaskText(text)
		if strings.Contains(got, someToken) && !strings.Contains(before+after, someToken) {
			t.Errorf("%q becomes %q", text, got)
		}
	})
}
