package sip

import (
	"strings"
	"testing"

	sipgo "github.com/emiago/sipgo/sip"
)

// RFC 3261 §25.1: brackets may stand in parameters, and no user name is empty.
func TestURIsReadAsTheyAreWritten(t *testing.T) {
	for uri, host := range map[string]string{
		"sip:192.0.2.9;lr;received=[2001:db8::1]:5060": "192.0.2.9",
		"sip:[2001:db8::9]:5070;lr;received=[::1]":     "[2001:db8::9]",
		"sip:a@192.0.2.9;maddr=[::1]":                  "192.0.2.9",
		"sip:h;[x=y;ob":                                "h",
		"sip:a:secret@h":                               "h",
		"tel:+49":                                      "",
		"sip:@h":                                       "bad",
		"sip::@h":                                      "bad",
		"sip:::@h":                                     "bad",
		"sip:a::@h":                                    "bad",
		"sip:a:b:@h":                                   "bad",
		"sip:a[b@h":                                    "bad",
		"sip:h;x=[::1":                                 "h",
	} {
		var u, again sipgo.Uri
		err := readURI(uri, &u)
		if err != nil && host == "bad" {
			continue
		}
		if err != nil || u.Host != host || u.String() != uri {
			t.Errorf("%s: %v, host %s, written %s", uri, err, u.Host, u.String())
		}
		if err := readURI(u.String(), &again); err != nil || again.String() != u.String() {
			t.Errorf("%s: read again: %v, %s", uri, err, again.String())
		}
	}
}

// FuzzURI: what is read can be written, and then reads the same.
func FuzzURI(f *testing.F) {
	for _, seed := range []string{"sip:h;[x=y", "sip::::@0", "sips:a:b@[::1]:5061;lr?x=y", "tel:+49;x", "sip:[::1]"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var u, again sipgo.Uri
		if readURI(s, &u) != nil || u.Wildcard || !plainHost(u.Host) || strings.ContainsAny(s, "<>\" \t") {
			return
		}
		if u.Scheme != "sip" && u.Scheme != "sips" {
			return
		}
		if err := readURI(u.String(), &again); err != nil || again.Host != u.Host || again.User != u.User || again.Port != u.Port {
			t.Errorf("%q is written as %q, which reads %v: %q", s, u.String(), err, again.String())
		}
	})
}
