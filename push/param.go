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

// Topic is the apns-topic of the app's VoIP pushes.
func (p APNsParam) Topic() string { return p.Bundle + voipSuffix }

const (
	voipSuffix = ".voip"
	maxParam   = 255
	maxBundle  = 155 // characters that Apple takes
	minToken   = 32  // hex digits; real ones have 64 and more, Apple fixes no length
	maxToken   = 512
)

var (
	errNoVoIP  = errors.New("names no voip service: a call needs a PushKit (voip) token, not a remote-notification token")
	errNotHex  = fmt.Errorf("is no device token: need %d to %d hexadecimal digits, an even number of them", minToken, maxToken)
	errNoParam = errors.New("is no APNs topic: need TEAM.bundle.voip, bundle.voip or a bundle id")
)

// ParseAPNsParam reads the pn-param forms that apps send:
//
//	ABCDE12345.com.example.phone.voip          RFC 8599
//	ABCDE12345.com.example.phone.remote&voip   Linphone: both services at once
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
		if service == "voip" {
			return s[:dot], nil
		}
	}
	return "", errNoVoIP
}

// ParseAPNsPRID gives the VoIP device token of a pn-prid, in lower case:
// either hex digits alone, or Linphone's "HEX:remote&HEX:voip". The errors
// never contain the token.
func ParseAPNsPRID(prid string) (string, error) {
	if len(prid) > 4*maxToken {
		return "", fmt.Errorf("pn-prid %w", errNotHex)
	}
	token := prid
	if strings.Contains(prid, ":") {
		var ok bool
		if token, ok = voipPart(prid); !ok {
			return "", fmt.Errorf("pn-prid %w", errNoVoIP)
		}
	}
	if !isToken(token) {
		return "", fmt.Errorf("pn-prid %w", errNotHex)
	}
	return strings.ToLower(token), nil
}

func voipPart(prid string) (string, bool) {
	for part := range strings.SplitSeq(prid, "&") {
		if token, service, _ := strings.Cut(part, ":"); service == "voip" {
			return token, true
		}
	}
	return "", false
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
