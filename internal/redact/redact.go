// Package redact removes credentials from text that is shown or stored.
package redact

import (
	"regexp"
	"strings"
	"sync"
)

// userinfo matches the userinfo of a URL (RFC 3986, 3.2.1) of a scheme that sends it as a credential. Passwords may contain
// characters that should be encoded; the last "@" before the path ends the userinfo, as in curl. The user of an SSH URL is
// not a secret, a password is. Go's JSON encoder escapes some characters.
var userinfo = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile("(?i)\\b(?:(?:git\\+)?https?|git|ftps?|socks5h?)://(?:[^\\s/?#\"'`<>|\\\\]|\\\\u00(?:26|3c|3e))*@|\\bssh://[^\\s/?#\"'`<>|\\\\:@]*:[^\\s/?#\"'`<>|\\\\]*@")
})

// mask replaces a user or a password, as in BuildKit (util/urlutil).
const mask = "xxxxx"

// URLs returns text with the credentials in URLs masked.
func URLs(text string) string {
	if !mayHaveUserinfo(text) {
		return text
	}
	return userinfo().ReplaceAllStringFunc(text, func(found string) string {
		scheme, user, _ := strings.Cut(found, "://")
		if strings.Contains(user, ":") {
			return scheme + "://" + mask + ":" + mask + "@"
		}
		return scheme + "://" + mask + "@"
	})
}

// mayHaveUserinfo reports whether an "@" follows a "://" before what ends an authority: it costs a hundredth of the expression.
func mayHaveUserinfo(text string) bool {
	for {
		_, rest, found := strings.Cut(text, "://")
		if !found {
			return false
		}
		end := strings.IndexAny(rest, "/?# \t\n\v\f\r\"'`<>|")
		if end < 0 {
			end = len(rest)
		}
		if strings.Contains(rest[:end], "@") {
			return true
		}
		text = rest
	}
}

// secretName matches names of variables that hold secrets, as the check SecretsUsedInArgOrEnv of BuildKit's linter does.
var secretName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)(?:^|_)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)`)
})

// IsSecret reports whether the name of a variable says that its value is a secret.
func IsSecret(name string) bool {
	return secretName().MatchString(name) && !strings.Contains(strings.ToLower(name), "public")
}
