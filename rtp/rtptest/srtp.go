package rtptest

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"

	pion "github.com/pion/srtp/v3"
)

// SRTP is a peer's end of SRTP with keys from SDP, made with another implementation than ours. The zero value has no
// keys yet.
type SRTP struct {
	Suite string // that it offers, or answered with; "" is AES_CM_128_HMAC_SHA1_80
	Seed  byte   // of its key, which is a test's and no secret

	mu      sync.Mutex // guards the following
	tag     string
	in, out *pion.Context
}

// lengths are those of master key and salt.
func lengths(suite string) (pion.ProtectionProfile, int, int) {
	switch suite {
	case "AES_CM_128_HMAC_SHA1_32":
		return pion.ProtectionProfileAes128CmHmacSha1_32, 16, 14
	case "AEAD_AES_128_GCM":
		return pion.ProtectionProfileAeadAes128Gcm, 16, 12
	case "AEAD_AES_256_GCM":
		return pion.ProtectionProfileAeadAes256Gcm, 32, 12
	}
	return pion.ProtectionProfileAes128CmHmacSha1_80, 16, 14
}

// Line is its a=crypto, without "a=".
func (s *SRTP) Line() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Suite == "" {
		s.Suite = "AES_CM_128_HMAC_SHA1_80"
	}
	if s.tag == "" {
		s.tag = "7"
	}
	profile, n, salt := lengths(s.Suite)
	key := make([]byte, n+salt)
	for i := range key {
		key[i] = byte(i)*3 + s.Seed
	}
	s.out, _ = pion.CreateContext(key[:n], key[n:], profile)
	return fmt.Sprintf("crypto:%s %s inline:%s", s.tag, s.Suite, base64.StdEncoding.EncodeToString(key))
}

// Hear takes the other side's SDP: of its keys that of our suite, or the first.
func (s *SRTP) Hear(sdp []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for line := range strings.Lines(string(sdp)) {
		f := strings.Fields(strings.TrimPrefix(line, "a=crypto:"))
		if !strings.HasPrefix(line, "a=crypto:") || len(f) != 3 || s.Suite != "" && f[1] != s.Suite {
			continue
		}
		s.tag, s.Suite = f[0], f[1]
		profile, n, _ := lengths(s.Suite)
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(f[2], "inline:"))
		if err != nil {
			return err
		}
		s.in, err = pion.CreateContext(key[:n], key[n:], profile, pion.SRTPReplayProtection(64), pion.SRTCPReplayProtection(64))
		return err
	}
	return errors.New("no a=crypto of ours in the other side's SDP")
}

// Seal encrypts a packet of RTP, or of RTCP.
func (s *SRTP) Seal(packet []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.out == nil:
		return nil, errors.New("no key of our own yet")
	case packet[1] >= 192 && packet[1] <= 223:
		return s.out.EncryptRTCP(nil, packet, nil)
	}
	return s.out.EncryptRTP(nil, packet, nil)
}

// Open decrypts a packet of SRTP, or of SRTCP.
func (s *SRTP) Open(packet []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.in == nil:
		return nil, errors.New("no key of the other side yet")
	case len(packet) < 12:
		return nil, errors.New("no packet")
	case packet[1] >= 192 && packet[1] <= 223:
		return s.in.DecryptRTCP(nil, packet, nil)
	}
	return s.in.DecryptRTP(nil, packet, nil)
}
