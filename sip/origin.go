package sip

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// checkUpgrade holds an HTTP request against RFC 6455 §4.2.1 as far as the
// client deserves a word about it, and RFC 7118 §4.1; code 0 accepts it.
func (t *transport) checkUpgrade(req *http.Request) (code int, problem string) {
	switch {
	case !headerOffers(req.Header, "Connection", "upgrade") || !headerOffers(req.Header, "Upgrade", "websocket"):
		return http.StatusUpgradeRequired, "This is a SIP over WebSocket port (RFC 7118): ask for an upgrade to websocket."
	case !headerOffers(req.Header, "Sec-WebSocket-Protocol", "sip"):
		return http.StatusBadRequest, "This port speaks the subprotocol sip (RFC 7118): ask for it by Sec-WebSocket-Protocol."
	case !t.cfg.allowsOrigin(req.Header.Get("Origin"), req.Host):
		return http.StatusForbidden, "Pages of this origin may not connect: the administrator can add it to sip.origins."
	}
	return 0, ""
}

// rejectedOrigin tells the administrator whose page was turned away.
func (t *transport) rejectedOrigin(conn net.Conn, req *http.Request) {
	origin := SanitiseText(req.Header.Get("Origin"), 128)
	t.origins.logOnce(addrPort(conn.RemoteAddr()).Addr(), func() {
		t.log.Warn("a web page of another origin was refused; if it is your app, add the origin to sip.origins",
			"origin", origin, "remote", conn.RemoteAddr().String())
	})
}

// headerOffers reports whether a list of tokens in an HTTP header has one of that name.
func headerOffers(h http.Header, name, token string) bool {
	for _, line := range h.Values(name) {
		for value := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(value), token) {
				return true
			}
		}
	}
	return false
}

// allowsOrigin decides whether a browser's page may connect (RFC 6455 §10.2).
// Who sends no Origin is no browser. Besides the listed ones a page from the
// host it connects to may, if that is a name of ours: any page could have got
// itself another name for our address (DNS rebinding).
func (c Config) allowsOrigin(origin, host string) bool {
	if origin == "" {
		return true
	}
	if slices.ContainsFunc(c.Origins, func(o string) bool { return strings.EqualFold(o, origin) }) {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return false
	}
	name := strings.Trim(host, "[]")
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	return strings.EqualFold(u.Hostname(), name) && c.namesUs(name)
}

// namesUs reports whether a host is known to be ours: an IP address that
// reached us, or a configured name. With no domains configured any name is.
func (c Config) namesUs(host string) bool {
	return isIP(host) || len(c.Domains) == 0 || strings.EqualFold(host, c.ExternalAddress) ||
		slices.ContainsFunc(c.Domains, func(d string) bool { return strings.EqualFold(d, host) })
}

func (c Config) validateOrigins(report func(path, problem string)) {
	for i, o := range c.Origins {
		u, err := url.Parse(o)
		if o == "null" || err == nil && u.Scheme != "" && u.Host != "" && o == u.Scheme+"://"+u.Host {
			continue
		}
		mend := "write it as browsers send it, such as https://app.example.com, without a path"
		if o == "*" {
			mend = "name each origin: a page that is not listed could use its visitor's access to this port"
		}
		report(fmt.Sprintf("origins[%d]", i), fmt.Sprintf("%q is no origin: %s", o, mend))
	}
}
