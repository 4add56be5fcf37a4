package mediabench

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
)

// describe is the description of one end: G.711, and a key where it has a suite.
func describe(a netip.AddrPort, profile, tag, suite string, key []byte) []byte {
	text := fmt.Sprintf("v=0\r\no=- 1 1 IN IP4 %v\r\ns=-\r\nc=IN IP4 %v\r\nt=0 0\r\nm=audio %d %s 8\r\na=rtpmap:8 PCMA/8000\r\na=ptime:20\r\n",
		a.Addr(), a.Addr(), a.Port(), profile)
	if suite != "" {
		text += fmt.Sprintf("a=crypto:%s %s %s\r\n", tag, suite, inline(key))
	}
	return []byte(text)
}

// read finds a relay's address in its description, and its key of a suite with the tag that it goes by.
func read(sdp []byte, suite string) (a netip.AddrPort, profile, tag string, key []byte, err error) {
	c := regexp.MustCompile(`(?m)^c=IN IP4 ([0-9.]+)`).FindSubmatch(sdp)
	m := regexp.MustCompile(`(?m)^m=audio (\d+) (\S+)`).FindSubmatch(sdp)
	if c == nil || m == nil {
		return a, "", "", nil, fmt.Errorf("no address in:\n%s", sdp)
	}
	ip, err := netip.ParseAddr(string(c[1]))
	if err != nil {
		return a, "", "", nil, err
	}
	port, _ := strconv.Atoi(string(m[1]))
	a, profile = netip.AddrPortFrom(ip, uint16(port)), string(m[2])
	if suite == "" {
		return a, profile, "", nil, nil
	}
	k := regexp.MustCompile(`(?m)^a=crypto:(\d+) ` + suite + ` inline:([^|\s]+)`).FindSubmatch(sdp)
	if k == nil {
		return a, profile, "", nil, fmt.Errorf("no key of %s is offered", suite)
	}
	key, err = base64.RawStdEncoding.DecodeString(string(regexp.MustCompile(`=*$`).ReplaceAll(k[2], nil)))
	return a, profile, string(k[1]), key, err
}
