package location

import (
	"crypto/ecdh"
	"encoding/base64"
	"errors"
)

// keySize is the number of bytes of an X25519 public key (RFC 7748 §5).
const keySize = 32

// errKey never has the key in it: it may be something else, put in the wrong place.
var errKey = errors.New("is no X25519 public key: need its 32 bytes in base64url without padding, 43 characters")

// CheckKey says what is wrong with a Target's Key: nothing where it is "", or an
// X25519 public key (RFC 7748) in base64url without padding (RFC 4648 §5). A
// key of small order is refused too: nothing can be sealed to it (RFC 9180 §7.1.4).
func CheckKey(key string) error {
	if key == "" {
		return nil
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(key)
	if err != nil || len(raw) != keySize || len(key) != base64.RawURLEncoding.EncodedLen(keySize) {
		return errKey
	}
	public, err := ecdh.X25519().NewPublicKey(raw)
	if err != nil {
		return errKey
	}
	// Every scalar is a multiple of the small orders, so any one tells.
	some, err := ecdh.X25519().NewPrivateKey(make([]byte, keySize))
	if err != nil {
		return err
	}
	if _, err := some.ECDH(public); err != nil {
		return errKey
	}
	return nil
}
