package push

import (
	"errors"
	"fmt"
	"strings"
)

// APNsParam is a parsed pn-param of pn-provider "apns" (RFC 8599 §9.2): the
// team and the bundle id that the device token belongs to.
type APNsParam struct {
	Team   string // 10 characters, or "" when the device did not say
	Bundle string // bundle id, without ".voip"
}

const (
	voipSuffix   = ".voip"
	remoteSuffix = ".remote"
	maxParam     = 255
	maxBundle    = 155 // characters that Apple takes
	minToken     = 32  // hex digits; real ones have 64 and more, Apple fixes no length
	maxToken     = 512
)

var (
	errNoService = errors.New("names neither the service voip nor remote: a call needs one of them")
	errNoTokens  = errors.New("has no token for voip or remote: need HEX, HEX:voip, HEX:remote or HEX:voip&HEX:remote")
	errNotHex    = fmt.Errorf("is no device token: need %d to %d hexadecimal digits, an even number of them", minToken, maxToken)
	errNoParam   = errors.New("is no APNs topic: need TEAM.bundle.voip, bundle.voip or a bundle id")
)

// ParseAPNsParam reads the pn-param forms that apps send:
//
//	ABCDE12345.com.example.phone.voip          RFC 8599
//	ABCDE12345.com.example.phone.remote&voip   Linphone: both services at once
//	ABCDE12345.com.example.phone.remote        alerts alone: Bundle ends in
//	                                           ".remote", as a bundle id may too
//	com.example.phone.voip, com.example.phone  without the team
func ParseAPNsParam(param string) (APNsParam, error) {
	if len(param) > maxParam {
		return APNsParam{}, fmt.Errorf("pn-param %w", errNoParam)
	}
	p := APNsParam{Bundle: param}
	if team, rest, ok := strings.Cut(param, "."); ok && isTeam(team) {
		p.Team, p.Bundle = team, rest
	}
	bundle, err := stripService(p.Bundle)
	if err != nil {
		return APNsParam{}, fmt.Errorf("pn-param %w", err)
	}
	p.Bundle = bundle
	if !isBundle(p.Bundle) {
		return APNsParam{}, fmt.Errorf("pn-param %w", errNoParam)
	}
	return p, nil
}

// stripService takes the service list off the end: ".voip", ".remote&voip",
// ".voip&remote". A bundle id may itself end in ".remote", so that one alone
// is left standing.
func stripService(s string) (string, error) {
	dot := strings.LastIndexByte(s, '.')
	last := s[dot+1:]
	if dot < 0 || (last != "voip" && !strings.Contains(last, "&")) {
		return s, nil
	}
	for service := range strings.SplitSeq(last, "&") {
		if service == "voip" || service == "remote" {
			return s[:dot], nil
		}
	}
	return "", errNoService
}

// APNsTokens are the device tokens of a pn-prid, in lower case: one for VoIP
// pushes (PushKit), one for alerts (remote notifications), or both; "" where
// there is none. They are secrets.
type APNsTokens struct {
	VoIP   string
	Remote string
}

// ParseAPNsPRID reads the pn-prid forms that apps send: hex digits alone, which
// are a VoIP token, or Linphone's HEX:voip, HEX:remote and HEX:voip&HEX:remote.
// The errors never contain a token.
func ParseAPNsPRID(prid string) (APNsTokens, error) {
	if len(prid) > 4*maxToken {
		return APNsTokens{}, fmt.Errorf("pn-prid %w", errNotHex)
	}
	if !strings.Contains(prid, ":") {
		if !isToken(prid) {
			return APNsTokens{}, fmt.Errorf("pn-prid %w", errNotHex)
		}
		return APNsTokens{VoIP: strings.ToLower(prid)}, nil
	}
	var t APNsTokens
	for part := range strings.SplitSeq(prid, "&") {
		token, service, _ := strings.Cut(part, ":")
		token = strings.ToLower(token)
		switch {
		case service == "voip" && t.VoIP == "":
			if !isToken(token) {
				return APNsTokens{}, fmt.Errorf("pn-prid %w", errNotHex)
			}
			t.VoIP = token
		case service == "remote" && t.Remote == "" && isToken(token):
			t.Remote = token
		}
	}
	if t == (APNsTokens{}) {
		return t, fmt.Errorf("pn-prid %w", errNoTokens)
	}
	return t, nil
}

func isToken(s string) bool {
	if len(s) < minToken || len(s) > maxToken || len(s)%2 != 0 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}

// isTeam: an Apple team id is ten capitals and digits.
func isTeam(s string) bool {
	if len(s) != 10 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

// isBundle: letters, digits, hyphens and dots (CFBundleIdentifier), no empty
// label. It goes into a header, so nothing else may pass.
func isBundle(s string) bool {
	if s == "" || len(s) > maxBundle || s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, "..") {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '-', c == '.', c == '_':
		default:
			return false
		}
	}
	return true
}
