package doctor

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"reveille/cmd/reveille/admin"
	"reveille/sip"
)

// bridge is one that runs with this configuration.
type bridge struct {
	sip   []string // what it listens on; nil: it did not say
	known bool     // it said
}

// askTime is ample for an answer from memory.
const askTime = 5 * time.Second

// askBridge asks at http.listen; nil: nobody is there, or no bridge.
func askBridge(ctx context.Context, base string, token sip.Secret) *bridge {
	if base == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var alive struct{ Status string }
	if !fetch(ctx, base+"/healthz", "", &alive) || alive.Status != "alive" {
		return nil
	}
	var s admin.Status
	if !fetch(ctx, base+"/api/v1/status", token.Reveal(), &s) {
		return &bridge{}
	}
	return &bridge{s.SIP, true}
}

func fetch(ctx context.Context, url, token string, into any) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	client := &http.Client{Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	const most = 1 << 20
	return res.StatusCode == http.StatusOK && json.NewDecoder(io.LimitReader(res.Body, most)).Decode(into) == nil
}

// listens reports whether the bridge has that address. One that does not say
// is believed to.
func (b *bridge) listens(scheme, addr string) bool {
	if b == nil {
		return false
	}
	if !b.known || scheme == "http" {
		return true
	}
	host, port, _ := net.SplitHostPort(addr)
	for _, l := range b.sip {
		s, have, _ := strings.Cut(l, "://")
		at, err := netip.ParseAddrPort(have)
		if err != nil || s != scheme || !strings.HasSuffix(have, ":"+port) {
			continue
		}
		if at.Addr().IsUnspecified() || at.Addr().String() == strings.Trim(host, "[]") {
			return true
		}
	}
	return false
}
