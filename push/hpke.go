package push

import (
	"crypto/ecdh"
	"crypto/hpke"
	"encoding/base64"
	"errors"
	"fmt"
)

// Caller data that only the device can read: HPKE (RFC 9180) in base mode with
// DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and ChaCha20-Poly1305. That is
// CryptoKit's Curve25519_SHA256_ChachaPoly and Tink's
// DHKEM_X25519_HKDF_SHA256_HKDF_SHA256_CHACHA20_POLY1305_RAW, so that no app
// needs cryptography of its own.
//
// The call's UUID is part of `info`: sealed data that is moved into another
// push does not open. It is not in the associated data, which stays empty,
// since Tink takes none.
//
// It hides the caller from the push services. It proves nothing about the
// sender: whoever has the device's public key can seal. What proves the call
// is the INVITE on the device's own registration.
const (
	sealInfo    = "reveille push v1 " // followed by the call's UUID
	sealBucket  = 128                 // the plaintext is a multiple of it, so that its size does not tell the name's
	keySize     = 32                  // of an X25519 public key (RFC 7748 §5), and so of HPKE's encapsulated key
	sealTag     = 16                  // of ChaCha20-Poly1305 (RFC 8439 §2.8)
	sealedExtra = keySize + sealTag
)

var errKey = errors.New("the device's key is no X25519 public key in base64url")

// decodeKey gives the 32 bytes of a Target's Key: an X25519 public key (RFC
// 7748) in base64url without padding (RFC 4648 §5).
func decodeKey(key string) ([]byte, error) {
	enc := base64.RawURLEncoding.Strict()
	if len(key) != enc.EncodedLen(keySize) {
		return nil, errKey
	}
	raw, err := enc.DecodeString(key)
	if err != nil || len(raw) != keySize { // the decoder passes over line ends
		return nil, errKey
	}
	return raw, nil
}

func hpkeSuite() (hpke.KEM, hpke.KDF, hpke.AEAD) {
	return hpke.DHKEM(ecdh.X25519()), hpke.HKDFSHA256(), hpke.ChaCha20Poly1305()
}

// hpkeSeal encrypts a JSON object for the device with this key, for this call
// only: base64url without padding of HPKE's enc and ciphertext. The object is
// padded with spaces, which every JSON parser takes after a value.
func hpkeSeal(key, uuid string, object []byte) (string, error) {
	raw, err := decodeKey(key)
	if err != nil {
		return "", err
	}
	kem, kdf, aead := hpkeSuite()
	to, err := kem.NewPublicKey(raw)
	if err != nil {
		return "", errKey
	}
	padded := make([]byte, paddedLen(len(object)))
	for i := copy(padded, object); i < len(padded); i++ {
		padded[i] = ' '
	}
	sealed, err := hpke.Seal(to, kdf, aead, []byte(sealInfo+uuid), padded)
	if err != nil {
		return "", fmt.Errorf("cannot seal the caller data: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(sealed), nil
}

func paddedLen(n int) int { return (n + sealBucket - 1) / sealBucket * sealBucket }

// sealable is how many bytes of JSON fit when sealed into this many
// characters; 0 or less: none.
func sealable(characters int) int {
	return (base64.RawURLEncoding.DecodedLen(max(characters, 0)) - sealedExtra) / sealBucket * sealBucket
}
