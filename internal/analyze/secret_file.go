package analyze

import (
	"bytes"
	"path"
	"regexp"
	"strings"
	"sync"
)

// secretFile is a kind of file that holds credentials.
type secretFile struct {
	what string
	// names are names of files, ends of paths, or, with a *, the ends of names.
	names []string
	// content is what the file has if it holds a secret; "" if its name says enough.
	content string
	// ours: in the directories of libraries such files are examples and tests.
	ours bool
}

const anyKey = `-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----`

var secretFiles = []secretFile{
	{what: "a private SSH key", names: []string{"id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "id_ecdsa_sk", "id_ed25519_sk", ".ssh/identity"}, content: anyKey},
	{what: "a private key of an SSH server", names: []string{"ssh_host_rsa_key", "ssh_host_dsa_key", "ssh_host_ecdsa_key", "ssh_host_ed25519_key"}, content: anyKey},
	{what: "a private key", names: []string{"*.pem", "*.key", "*.p8", "*.priv"}, content: anyKey, ours: true},
	{what: "a private key", names: []string{"*.ppk"}, content: `Private-Lines:`, ours: true},
	{what: "a key store", names: []string{"*.p12", "*.pfx", "*.jks", "*.keystore"}, ours: true},
	{what: "credentials of npm", names: []string{".npmrc"}, content: `(?m)(?:_authToken|_auth|_password)\s*=\s*[^\s$]`},
	{what: "credentials of Yarn", names: []string{".yarnrc.yml", ".yarnrc"}, content: `(?:npmAuthToken|npmAuthIdent|_authToken)"?:?\s*"?[^\s"$]`},
	{what: "passwords for hosts", names: []string{".netrc", "_netrc"}, content: `\bpassword\s+\S`},
	{what: "credentials of AWS", names: []string{".aws/credentials", ".aws/config"}, content: `(?i)aws_(?:secret_access_key|session_token)\s*=\s*\S`},
	{what: "credentials of Git", names: []string{".git-credentials", ".gitconfig", ".git/config"}, content: `(?i)://[^\s:/@]*:[^\s/@]+@|://[A-Za-z0-9_]{20,}@|authorization:\s*(?:basic|bearer)`},
	{what: "credentials of registries", names: []string{".docker/config.json", ".dockercfg", "containers/auth.json"}, content: `"(?:auth|identitytoken|registrytoken|password)"\s*:\s*"[^"]`},
	{what: "credentials of Kubernetes", names: []string{".kube/config", "kubeconfig", "*.kubeconfig", "etc/kubernetes/admin.conf"}, content: `(?m)^\s*(?:-\s+)?(?:client-key-data|token|password):\s*\S`},
	{what: "credentials of PyPI", names: []string{".pypirc"}, content: `(?m)^\s*password\s*[=:]\s*\S`},
	{what: "credentials in an index of pip", names: []string{"pip.conf", "pip.ini"}, content: `://[^\s:/@]*:[^\s/@]+@`},
	{what: "credentials of RubyGems", names: []string{".gem/credentials"}, content: `api_key:\s*\S`},
	{what: "credentials of Cargo", names: []string{".cargo/credentials", ".cargo/credentials.toml", "cargo/credentials.toml"}, content: `token\s*=\s*"[^"]`},
	{what: "credentials of Google Cloud", names: []string{"application_default_credentials.json", "*credentials.json", "*service-account.json", "*serviceaccount.json", "*service_account.json"}, content: `"(?:private_key|refresh_token|client_secret)"\s*:\s*"[^"]`, ours: true},
	{what: "credentials of Google Cloud", names: []string{"gcloud/credentials.db", "gcloud/access_tokens.db"}},
	{what: "credentials of NuGet", names: []string{"NuGet.Config", "nuget.config", "NuGet.config"}, content: `(?i)key="(?:ClearText)?Password"\s+value="[^"%]`},
	{what: "credentials of sbt", names: []string{".sbt/.credentials", ".ivy2/.credentials"}, content: `(?m)^\s*password\s*=\s*\S`},
	{what: "credentials of Azure", names: []string{".azure/accessTokens.json", ".azure/msal_token_cache.json"}, content: `"(?:accessToken|refreshToken|secret)"\s*:\s*"[^"]`},
	{what: "a token of Vault", names: []string{".vault-token"}, content: `\S`},
	{what: "a token of the GitHub command", names: []string{".config/gh/hosts.yml"}, content: `oauth_token:\s*\S`},
	{what: "credentials of Terraform", names: []string{".terraform.d/credentials.tfrc.json", ".terraformrc"}, content: `"?token"?\s*[:=]\s*"[^"]`},
	{what: "secrets in the state of Terraform", names: []string{"*.tfstate"}, content: `"(?:password|secret|secret_key|private_key|private_key_pem|token)"\s*:\s*"[^"]`},
	{what: "credentials of Maven", names: []string{".m2/settings.xml", "conf/settings.xml"}, content: `<(?:password|passphrase)>[^<${\s*]`},
	{what: "credentials of Gradle", names: []string{".gradle/gradle.properties"}, content: `(?mi)(?:password|token|secret)\w*\s*=\s*\S`},
	{what: "credentials of Composer", names: []string{".composer/auth.json", ".config/composer/auth.json", "auth.json"}, content: `"(?:github-oauth|gitlab-token|http-basic|bearer)"\s*:\s*\{\s*"`},
	{what: "credentials of an object store", names: []string{".s3cfg", ".boto", ".mc/config.json"}, content: `(?i)"?secret_?(?:access_?)?key"?\s*[:=]\s*"?\S`},
	{what: "credentials of rclone", names: []string{"rclone.conf"}, content: `(?m)^(?:pass|token|secret_access_key|client_secret)\s*=\s*\S`},
	{what: "passwords of PostgreSQL", names: []string{".pgpass"}, content: `(?m)^[^#\s][^:\n]*:[^:\n]*:[^:\n]*:[^:\n]*:\S`},
	{what: "a password of MySQL", names: []string{".my.cnf", ".mylogin.cnf"}, content: `(?m)^\s*password\s*=\s*\S`},
	{what: "a password hash", names: []string{"etc/shadow", "etc/shadow-"}, content: `(?m)^[^:\n]+:\$[^:\n]`},
	{what: "a file of /run/secrets", names: []string{"run/secrets/*"}},
}

// secretNames finds a file's kinds by its name.
type secretNames struct {
	base   map[string][]*secretFile // whole names, and ends of paths by their last component
	suffix []*secretFile
	checks map[*secretFile]*regexp.Regexp
}

var knownSecretFiles = sync.OnceValue(func() *secretNames {
	s := &secretNames{base: map[string][]*secretFile{}, checks: map[*secretFile]*regexp.Regexp{}}
	for i := range secretFiles {
		f := &secretFiles[i]
		if f.content != "" {
			s.checks[f] = regexp.MustCompile(f.content)
		}
		for _, name := range f.names {
			if strings.Contains(name, "*") {
				s.suffix = append(s.suffix, f)
			} else {
				s.base[path.Base(name)] = append(s.base[path.Base(name)], f)
			}
		}
	}
	return s
})

// match returns the kind of a file, nil if its name is not one of a file with secrets.
func (s *secretNames) match(name string, pathOf func() string) *secretFile {
	for _, f := range s.base[name] {
		for _, want := range f.names {
			if path.Base(want) == name && isPathEnd(pathOf(), want) {
				return f
			}
		}
	}
	for _, f := range s.suffix {
		for _, want := range f.names {
			dir, end, ok := strings.Cut(want, "*")
			if ok && (dir == "" && strings.HasSuffix(name, end) || dir != "" && path.Dir(pathOf())+"/" == dir) {
				return f
			}
		}
	}
	return nil
}

// isPathEnd reports whether a path ends with whole components.
func isPathEnd(p, end string) bool {
	return p == end || strings.HasSuffix(p, end) && p[len(p)-len(end)-1] == '/'
}

// libraryDirs are directories of programs and libraries that others wrote: keys and tokens there are examples and tests.
var libraryDirs = []string{
	"usr/share", "usr/lib", "usr/lib64", "usr/libexec", "usr/include", "usr/src", "usr/bin", "usr/sbin", "usr/local/lib", "usr/local/share",
	"usr/local/include", "lib", "lib64", "bin", "sbin", "var/lib/dpkg", "var/lib/rpm", "var/lib/apt", "var/cache", "lib/apk", "etc/ssl/certs",
	"usr/local/go", "opt/java", "opt/conda/lib", "opt/conda/pkgs",
}

// libraryNames are such directories wherever they are.
var libraryNames = map[string]bool{
	"node_modules": true, "site-packages": true, "dist-packages": true, "vendor": true, "testdata": true, "gems": true, "pkg/mod": true, "__pycache__": true,
}

// isLibraryDir reports whether a directory holds programs and libraries of others.
func isLibraryDir(dir string) bool {
	if libraryNames[path.Base(dir)] || strings.HasSuffix(dir, "go/pkg/mod") {
		return true
	}
	for _, d := range libraryDirs {
		if dir == d {
			return true
		}
	}
	return false
}

// configEnds are the ends of names of files that are written by hand, and in which tokens are forgotten.
var configEnds = map[string]bool{
	".env": true, ".ini": true, ".cfg": true, ".conf": true, ".json": true, ".yaml": true, ".yml": true, ".toml": true, ".properties": true,
	".sh": true, ".xml": true, ".txt": true, ".py": true, ".js": true, ".ts": true, ".rb": true, ".php": true, ".go": true, ".pem": true, ".key": true,
	".tf": true, ".tfvars": true, ".rc": true, ".cnf": true, ".bash_history": true, ".ash_history": true, ".zsh_history": true, ".sh_history": true, ".credentials": true,
	".bashrc": true, ".bash_profile": true, ".profile": true, ".zshrc": true, ".envrc": true, ".python_history": true, ".psql_history": true, ".mysql_history": true,
	".curlrc": true, ".wgetrc": true, ".ps1": true, ".bash": true, ".gradle": true, ".mjs": true, ".cjs": true, ".tsx": true, ".jsx": true, ".java": true, ".cs": true,
}

// isEnvFile reports whether a file has variables, as docker and compose read them. Templates have none that count.
func isEnvFile(name string) bool {
	return (name == ".env" || strings.HasPrefix(name, ".env.") || strings.HasSuffix(name, ".env")) &&
		!strings.Contains(name, "example") && !strings.Contains(name, "sample") && !strings.Contains(name, "template") && !strings.Contains(name, ".dist")
}

// isTest reports whether a file is a test of a program: keys in it are examples.
func isTest(name string) bool {
	return strings.HasSuffix(name, "_test.go") || strings.HasSuffix(name, ".test.js") || strings.HasSuffix(name, ".test.ts") || strings.HasPrefix(name, "test_")
}

// secretIn says what secret a file has, "" for none, and on which line.
func secretIn(f *secretFile, name string, content []byte) (what string, line int) {
	if f != nil {
		check := knownSecretFiles().checks[f]
		if check == nil {
			return f.what, 0
		}
		if at := check.FindIndex(content); at != nil {
			return f.what, lineAt(content, at[0])
		}
	}
	if bytes.IndexByte(content[:min(len(content), 512)], 0) >= 0 {
		return "", 0
	}
	if what, at := findToken(string(content)); what != "" {
		return what, lineAt(content, at)
	}
	if isEnvFile(name) {
		return envSecret(content)
	}
	return "", 0
}

// envSecret finds a variable of an environment file whose name is that of a secret.
func envSecret(content []byte) (what string, line int) {
	for i, text := range bytes.Split(content, []byte("\n")) {
		name, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(string(text)), "export "), "=")
		if ok && !strings.HasPrefix(name, "#") && IsSecretName(name) && !isReference(value) {
			return "a value for " + name, i + 1
		}
	}
	return "", 0
}

func lineAt(content []byte, at int) int { return bytes.Count(content[:at], []byte("\n")) + 1 }
