package location

import (
	"encoding/base64"
	"encoding/hex"
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
	if err != nil || len(raw) != keySize || len(key) != base64.RawURLEncoding.EncodedLen(keySize) || smallOrder(raw) {
		return errKey
	}
	return nil
}

// smallOrder holds for the points whose order divides 8, by their u-coordinates
// (RFC 7748 §6.1; cr.yp.to/ecdh.html#validate): to ask ECDH itself would cost
// more than the REGISTER that the key is in.
func smallOrder(raw []byte) bool {
	var u [keySize]byte
	copy(u[:], raw)
	u[keySize-1] &= 0x7f // which X25519 ignores
	switch hex.EncodeToString(u[:]) {
	case "0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
		"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p-1
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f": // p+1
		return true
	}
	return false
}
