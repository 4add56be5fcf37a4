package sip

import (
	"strings"

	sipgo "github.com/emiago/sipgo/sip"
)

// readURI reads a URI (RFC 3261 §19.1.1). sipgo's parser takes the first
// bracket for the host, though parameters may have some ("received=[::1]"), and
// lets user names pass that it can't write again.
func readURI(s string, u *sipgo.Uri) error {
	scheme, rest, _ := strings.Cut(s, ":")
	user, _, named := strings.Cut(rest, "@")
	switch {
	case !strings.EqualFold(scheme, "sip") && !strings.EqualFold(scheme, "sips"):
		return sipgo.ParseUri(s, u)
	case named && (user == "" || user[0] == ':' || strings.HasPrefix(user, "//")):
		return errBadAddress
	case named && strings.Contains(user, "["): // of the user name
		return errBadAddress
	case !named && strings.LastIndexByte(rest, '[') > 0:
		err := sipgo.ParseUri(scheme+":x@"+rest, u)
		u.User = ""
		return err
	}
	if err := sipgo.ParseUri(s, u); err != nil {
		return err
	}
	if u.Password == "" && strings.Contains(u.User, ":") {
		return errBadAddress
	}
	return nil
}
