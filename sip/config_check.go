package sip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

// canonicalAlgorithm returns the spelling of a digest algorithm that the server
// offers, or "" for one that it doesn't. Absent means MD5 (RFC 3261 §22.4).
func canonicalAlgorithm(name string) string {
	switch strings.ToUpper(name) {
	case "", "MD5":
		return "MD5"
	case "SHA-256":
		return "SHA-256"
	}
	return ""
}

func positive(report func(path, problem string), path string, n int) {
	if n < 1 {
		report(path, fmt.Sprintf("%d allows nothing at all: use 1 or more", n))
	}
}

func atLeast(report func(path, problem string), path string, d, min time.Duration) {
	if d < min {
		report(path, fmt.Sprintf("%s is too short: use %s or more", d, min))
	}
}

func atMost(report func(path, problem string), path string, d, max time.Duration) {
	if d > max {
		report(path, fmt.Sprintf("%s is too long: use %s or less", d, max))
	}
}

// hostPort checks host[:port] and fills in the port.
func hostPort(s, defaultPort string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = strings.Trim(s, "[]"), defaultPort
		if strings.Contains(host, ":") && (!isIP(host) || s[0] != '[') {
			return "", errors.New("is not host:port: an IPv6 address goes in brackets, as in [::1]:5060")
		}
	}
	if host != "" && !isHost(host) {
		return "", fmt.Errorf("%q is not an IP address or host name", host)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return "", fmt.Errorf("%q is not a port: use 1 to 65535", port)
	}
	return net.JoinHostPort(host, port), nil
}

func isIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// isHost holds s against host names as RFC 3261 §25 has them, plus the
// underscore that is met in practice, and IP addresses.
func isHost(s string) bool {
	if isIP(s) {
		return true
	}
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		if strings.ContainsFunc(label, func(r rune) bool { return !isWord(r) && r != '-' }) {
			return false
		}
	}
	return true
}

func isWord(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '_'
}

// looksNumeric tells a mistyped IPv4 address from a host name: no top-level
// domain is a number.
func looksNumeric(s string) bool {
	last := s[strings.LastIndexByte(s, '.')+1:]
	_, err := strconv.Atoi(last)
	return err == nil
}

func isName(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return !isWord(r) && r != '.' && r != '-'
	})
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// uriProblem says what keeps s from being a sip: or sips: URI, or "".
func uriProblem(s string) string {
	var uri sipgo.Uri
	mend := "write it as sip:host or sip:user@host:port"
	if hasControl(s) || strings.ContainsAny(s, " <>\"") {
		return fmt.Sprintf("%q has characters that can't stand in a URI: %s", s, mend)
	}
	if err := readURI(s, &uri); err != nil || uri.Scheme != "sip" && uri.Scheme != "sips" {
		return fmt.Sprintf("%q is not a SIP URI: %s", s, mend)
	}
	if uri.HierarhicalSlashes {
		return fmt.Sprintf("%q has // in it: %s", s, mend)
	}
	if !isHost(strings.Trim(uri.Host, "[]")) {
		return fmt.Sprintf("%q has no proper host: %s", s, mend)
	}
	if uri.Port < 0 || uri.Port > 65535 {
		return fmt.Sprintf("port %d of %q is not a port: use 1 to 65535", uri.Port, s)
	}
	return ""
}
