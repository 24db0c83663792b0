package kaniko

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// Kind is the form of a build context.
type Kind int

// The kinds of contexts.
const (
	Directory  Kind = iota
	Archive         // a file
	Stdin           // an archive on stdin
	Download        // an archive at a URL
	Repository      // a commit of a git repository
)

// Source is where the build context comes from.
type Source struct {
	Kind Kind
	// Place is a path or a URL.
	Place string
	// Ref is a branch, tag or commit, "" for the default.
	Ref string
	// Header is the Authorization field of requests to the repository, "" for none.
	Header string
}

// Source returns the place of the build context.
func (o *Options) Source() (Source, error) {
	text := o.Context
	if o.Bucket != "" {
		text = o.Bucket
		if !strings.Contains(text, "://") {
			text = "gs://" + text
		}
	}
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return Source{Kind: Directory, Place: text}, nil
	}
	switch scheme {
	case "dir":
		return Source{Kind: Directory, Place: rest}, nil
	case "tar":
		if rest == "stdin" {
			return Source{Kind: Stdin}, nil
		}
		return Source{Kind: Archive, Place: rest}, nil
	case "https":
		if u, err := url.Parse(text); err == nil && strings.HasSuffix(u.Host, ".blob.core.windows.net") && u.RawQuery == "" {
			return Source{}, fmt.Errorf("build context %s: mica does not sign in to Azure storage: use a URL with a signature, tar:// or tar://stdin", text)
		}
		return Source{Kind: Download, Place: text}, nil
	case "git":
		return o.repository(rest)
	case "s3", "gs":
		return Source{}, fmt.Errorf("build context %s: mica does not read buckets: use a signed https:// URL, tar:// or tar://stdin", text)
	}
	return Source{}, errors.New("unknown build context prefix provided, please use one of the following: dir://, tar://, git://, https://")
}

// commit is a full name of a commit.
var commit = regexp.MustCompile(`^[0-9a-f]{40}([0-9a-f]{24})?$`)

// repository reads HOST/PATH[#REF[#COMMIT]].
func (o *Options) repository(rest string) (Source, error) {
	if o.Git.InsecureSkipTLS {
		return Source{}, errors.New("--git insecure-skip-tls: mica verifies certificates: set GIT_SSL_CAINFO to the authority of the server")
	}
	parts := strings.Split(rest, "#")
	method, _ := o.env("GIT_PULL_METHOD")
	if method != "http" {
		method = "https"
	}
	s := Source{Kind: Repository, Place: method + "://" + parts[0], Ref: o.Git.Branch, Header: o.gitHeader()}
	if s.Ref == "" && len(parts) > 1 {
		s.Ref = parts[1]
	}
	if len(parts) > 2 {
		if !commit.MatchString(parts[2]) {
			return Source{}, fmt.Errorf("build context git://%s: %q is not the full name of a commit", rest, parts[2])
		}
		s.Ref = parts[2]
	}
	return s, nil
}

// gitHeader has the credentials of Kaniko's variables.
func (o *Options) gitHeader() string {
	user, _ := o.env("GIT_USERNAME")
	password, _ := o.env("GIT_PASSWORD")
	if token, _ := o.env("GIT_TOKEN"); token != "" {
		user, password = token, ""
	}
	if user == "" && password == "" {
		return ""
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}
