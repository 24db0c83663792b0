// Package redact takes credentials out of text that is shown or kept.
package redact

import (
	"regexp"
	"strings"
)

// userinfo is the userinfo of a URL (RFC 3986, 3.2.1) of a scheme that sends it as a credential. People write characters in
// passwords that ought to be encoded; of "@" the last before the path counts, as for curl. The user of an SSH URL is
// no secret; a password is. In JSON as Go writes it, some characters are escapes.
var userinfo = regexp.MustCompile("(?i)\\b(?:(?:git\\+)?https?|git|ftps?|socks5h?)://(?:[^\\s/?#\"'`<>|\\\\]|\\\\u00(?:26|3c|3e))*@|\\bssh://[^\\s/?#\"'`<>|\\\\:@]*:[^\\s/?#\"'`<>|\\\\]*@")

// mask stands in for a user and for a password, as in BuildKit (util/urlutil).
const mask = "xxxxx"

// URLs returns text in which the URLs have no credentials.
func URLs(text string) string {
	if !strings.Contains(text, "://") || !strings.Contains(text, "@") {
		return text
	}
	return userinfo.ReplaceAllStringFunc(text, func(found string) string {
		scheme, user, _ := strings.Cut(found, "://")
		if strings.Contains(user, ":") {
			return scheme + "://" + mask + ":" + mask + "@"
		}
		return scheme + "://" + mask + "@"
	})
}
