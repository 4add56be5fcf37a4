package sip

import (
	"testing"
)

func TestKeysGoByNoFlowThatOthersCanRead(t *testing.T) {
	plain := []byte("v=0\r\nm=audio 4000 RTP/AVP 0\r\na=sendrecv\r\n")
	keys := []byte("v=0\r\nm=audio 4000 RTP/AVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\n")
	for proto, secret := range map[string]bool{"UDP": false, "TCP": false, "WS": false, "TLS": true, "WSS": true} {
		f := &flow{proto: proto}
		if f.secret() != secret || !f.mayCarry(plain) || !f.mayCarry(nil) || f.mayCarry(keys) != secret {
			t.Errorf("%s: secret %v, keys may go: %v", proto, f.secret(), f.mayCarry(keys))
		}
	}
}

func TestSRTPOfATrunkIsOffOptionalOrRequired(t *testing.T) {
	for value, want := range map[string]bool{"": true, "off": true, "optional": true, "required": true, "on": false, "Required": false} {
		good := true
		TrunkConfig{Name: "c", Peers: []string{"192.0.2.1"}, SRTP: value}.Validate(func(path, problem string) {
			if good = false; path != "srtp" {
				t.Errorf("%q: %s: %s", value, path, problem)
			}
		})
		if good != want {
			t.Errorf("%q: taken: %v", value, good)
		}
	}
}
