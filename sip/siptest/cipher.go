package siptest

import "strings"

// Cipher is a peer's SRTP, with keys from SDP (RFC 4568) or from DTLS.
type Cipher interface {
	Line() string                          // our "crypto:..." attribute
	Hear(sdp []byte) error                 // takes the other side's
	Seal(packet []byte) ([]byte, error)    // encrypts
	Open(encrypted []byte) ([]byte, error) // decrypts
}

// Protect encrypts the stream: with a profile, "RTP/SAVP" or "RTP/AVP", that our
// offers have; "": only in answer to an offer with keys.
func (a *Audio) Protect(c Cipher, profile string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cipher, a.profile = c, profile
}

// Protected reports whether the stream is encrypted.
func (a *Audio) Protected() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.profile != ""
}

// offered takes the keys of an offer, if there are any.
func (a *Audio) offered(sdp []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cipher == nil {
		return
	}
	a.profile = ""
	if a.cipher.Hear(sdp) == nil {
		a.profile = "RTP/AVP"
		for _, profile := range []string{"RTP/SAVP", "UDP/TLS/RTP/SAVP", "UDP/TLS/RTP/SAVPF"} {
			if strings.Contains(string(sdp), " "+profile+" ") {
				a.profile = profile
			}
		}
	}
}

// secrecy is the profile and the key line of our SDP. The caller holds a.mu.
func (a *Audio) secrecy() (profile, key string) {
	if a.profile == "" {
		return "RTP/AVP", ""
	}
	return a.profile, "a=" + a.cipher.Line() + "\r\n"
}

func (a *Audio) sealed(p []byte) ([]byte, error) {
	if !a.Protected() {
		return p, nil
	}
	return a.cipher.Seal(p)
}

// opened decrypts what has come. The caller holds a.mu.
func (a *Audio) opened(p []byte) ([]byte, bool) {
	if a.profile == "" {
		return p, true
	}
	p, err := a.cipher.Open(p)
	return p, err == nil
}
