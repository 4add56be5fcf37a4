package mediabench

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
)

// The crypto suites that are measured, by their names in SDP (RFC 4568 §6.2, RFC 7714 §14.2).
const (
	suiteCM  = "AES_CM_128_HMAC_SHA1_80"
	suiteGCM = "AEAD_AES_128_GCM"
)

// sealer encrypts a packet where it lies, in whose slice there is room for the tag; opener decrypts into memory of its
// own, which is good until the next packet.
type (
	sealer func(packet []byte) ([]byte, error)
	opener func(packet []byte) ([]byte, error)
)

func newContext(suite string, key []byte) (*srtp.Context, error) {
	profile := srtp.ProtectionProfileAes128CmHmacSha1_80
	if suite == suiteGCM {
		profile = srtp.ProtectionProfileAeadAes128Gcm
	}
	if len(key) != keyLength(suite) {
		return nil, fmt.Errorf("a key of %d bytes for %s", len(key), suite)
	}
	return srtp.CreateContext(key[:16], key[16:], profile)
}

func newSealer(suite string, key []byte) (sealer, error) {
	c, err := newContext(suite, key)
	out := make([]byte, 0, rtpHeader+payloadBytes+maxTag)
	var header rtp.Header
	return func(packet []byte) ([]byte, error) {
		sealed, err := c.EncryptRTP(out, packet, &header)
		if err != nil {
			return nil, err
		}
		packet = packet[:len(sealed)]
		copy(packet, sealed)
		return packet, nil
	}, err
}

func newOpener(suite string, key []byte) (opener, error) {
	c, err := newContext(suite, key)
	out := make([]byte, 0, 2048)
	var header rtp.Header
	return func(packet []byte) ([]byte, error) { return c.DecryptRTP(out, packet, &header) }, err
}

// keyLength is that of master key and salt together.
func keyLength(suite string) int {
	if suite == suiteGCM {
		return 16 + 12
	}
	return 16 + 14
}

func newKey(suite string) []byte {
	key := make([]byte, keyLength(suite))
	_, _ = rand.Read(key) // it never fails
	return key
}

func inline(key []byte) string { return "inline:" + base64.StdEncoding.EncodeToString(key) }
