package sip

import (
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
)

// What digest authentication's two sides share (RFC 2617, 7616, 8760). The
// header parser is our own: it takes every token character, tabs and any case,
// and keeps nc as the far end wrote it, since that spelling goes into the hash.

// HA1 is the hash of user:realm:password in lower-case hex, for the algorithm
// "MD5", "SHA-256" or "SHA-512-256"; "" for another one.
func HA1(algorithm, user, realm, password string) string {
	h := newDigestHash(algorithm)
	if h == nil {
		return ""
	}
	return digestJoin(h, user, realm, password)
}

// newDigestHash returns nil for an algorithm that we can't compute. The suffix
// -sess does not change the hash function.
func newDigestHash(algorithm string) hash.Hash {
	switch strings.TrimSuffix(strings.ToUpper(algorithm), "-SESS") {
	case "", "MD5": // absent means MD5, RFC 3261 §22.4
		return md5.New()
	case "SHA-256":
		return sha256.New()
	case "SHA-512-256":
		return sha512.New512_256()
	}
	return nil
}

func digestJoin(h hash.Hash, parts ...string) string {
	h.Reset()
	h.Write([]byte(strings.Join(parts, ":")))
	return hex.EncodeToString(h.Sum(nil))
}

// digestInput is all that goes into a response besides HA1.
type digestInput struct {
	algorithm, method, uri string
	nonce, nc, cnonce, qop string // nc as written; qop "" is RFC 2069
	body                   []byte // for qop auth-int
}

// response computes the response from HA1 (RFC 7616 §3.4.1). ok is false for an
// algorithm or qop that we can't compute.
func (d digestInput) response(ha1 string) (response string, ok bool) {
	h := newDigestHash(d.algorithm)
	if h == nil {
		return "", false
	}
	if strings.HasSuffix(strings.ToUpper(d.algorithm), "-SESS") {
		ha1 = digestJoin(h, ha1, d.nonce, d.cnonce)
	}
	switch d.qop {
	case "":
		return digestJoin(h, ha1, d.nonce, digestJoin(h, d.method, d.uri)), true
	case "auth":
		return digestJoin(h, ha1, d.nonce, d.nc, d.cnonce, d.qop, digestJoin(h, d.method, d.uri)), true
	case "auth-int":
		ha2 := digestJoin(h, d.method, d.uri, digestJoin(h, string(d.body)))
		return digestJoin(h, ha1, d.nonce, d.nc, d.cnonce, d.qop, ha2), true
	}
	return "", false
}

// authValue is one challenge or one set of credentials: the scheme and its
// parameters, names in lower case, values without quotes.
type authValue struct {
	scheme string
	params map[string]string
}

func (a authValue) isDigest() bool { return strings.EqualFold(a.scheme, "Digest") }

// parseAuth reads the values of an authentication header. Several may be joined
// by commas, which also part the parameters: a piece that starts with two words
// starts a new value (RFC 7235 §4.1).
func parseAuth(header string) ([]authValue, error) {
	pieces, ok := splitOutside(header, ',')
	if !ok {
		return nil, errBadAddress
	}
	var out []authValue
	for _, piece := range pieces {
		piece = strings.Trim(piece, " \t")
		if piece == "" {
			continue // empty list elements are borne, RFC 7230 §7
		}
		name, value, hasValue := strings.Cut(piece, "=")
		words := strings.Fields(name)
		if len(words) == 2 || len(words) == 1 && !hasValue {
			out = append(out, authValue{words[0], map[string]string{}})
			words = words[1:]
		}
		if len(words) == 0 {
			continue // a scheme without parameters
		}
		if len(words) > 1 || len(out) == 0 || !isToken(words[0]) {
			return nil, errBadAddress
		}
		key := strings.ToLower(words[0])
		params := out[len(out)-1].params
		if _, twice := params[key]; twice {
			return nil, fmt.Errorf("%w: %s twice", errBadAddress, key)
		}
		params[key] = unescapeQuoted(strings.Trim(value, " \t"))
	}
	return out, nil
}

// parseNonceCount reads nc: eight hex digits (RFC 7616 §3.4).
func parseNonceCount(s string) (uint32, bool) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 4 {
		return 0, false
	}
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]), true
}
