package sdp

import (
	"encoding/base64"
	"fmt"
	"io"
	"math/bits"
	"strconv"
	"strings"

	pion "github.com/pion/sdp/v3"
)

// Security is what a side's media may be.
type Security uint8

// Off is plain RTP: keys are neither sent nor taken, as on every signalling that others can read (RFC 4568 §7).
// Optional encrypts where the peer can; Required does not do without.
const (
	Off Security = iota
	Optional
	Required
)

// ParseSecurity reads "off", "optional" or "required"; "" is off.
func ParseSecurity(text string) (Security, error) {
	switch text {
	case "", "off":
		return Off, nil
	case "optional":
		return Optional, nil
	case "required":
		return Required, nil
	}
	return Off, fmt.Errorf("%q is no way to encrypt; use off, optional or required", text)
}

// Suite is an SRTP crypto suite by its name in SDP.
type Suite string

// The suites that we know (RFC 4568 §6.2, RFC 7714 §14.2).
const (
	AES128CM80 Suite = "AES_CM_128_HMAC_SHA1_80"
	AES128CM32 Suite = "AES_CM_128_HMAC_SHA1_32"
	AES128GCM  Suite = "AEAD_AES_128_GCM"
	AES256GCM  Suite = "AEAD_AES_256_GCM"
)

// Offered are the suites of our offers. The one that all phones have comes first; the one with a tag of 32 bits is
// taken, but not offered.
func Offered() []Suite { return []Suite{AES128CM80, AES128GCM, AES256GCM} }

// Lengths are the bytes of a suite's master key and master salt; 0 for a suite that we do not know.
func (s Suite) Lengths() (key, salt int) {
	switch s {
	case AES128CM80, AES128CM32:
		return 16, 14
	case AES128GCM:
		return 16, 12
	case AES256GCM:
		return 32, 12
	}
	return 0, 0
}

// Key is a master key and, behind it, its master salt. It does not show when it is printed.
type Key []byte

// Format prints nothing of the key, whatever the verb.
func (Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[key]") }

// MarshalText prints nothing of the key.
func (Key) MarshalText() ([]byte, error) { return []byte("[key]"), nil }

// Crypto is one a=crypto (RFC 4568 §4): what its sender encrypts with.
type Crypto struct {
	Tag   uint32 // at most nine digits
	Suite Suite
	Key   Key
}

// attribute is the value of a=crypto.
func (c Crypto) attribute() string {
	return fmt.Sprintf("%d %s inline:%s", c.Tag, c.Suite, base64.StdEncoding.EncodeToString(c.Key))
}

const (
	maxCrypto   = 16      // lines that are looked at
	minLifetime = 1 << 20 // packets with one key: six hours of speech, longer than a call is let
)

// ParseCrypto reads the value of an a=crypto. It refuses all that would change how packets are made: several keys, a
// master key identifier, every session parameter but the hint of a window's size. Errors hold nothing of the line.
func ParseCrypto(value string) (Crypto, error) {
	fields := strings.Fields(value)
	if len(fields) < 3 {
		return Crypto{}, cryptoError("not tag, suite and key")
	}
	tag, err := strconv.ParseUint(fields[0], 10, 32)
	if err != nil || len(fields[0]) > 9 || fields[0][0] == '+' {
		return Crypto{}, cryptoError("its tag is no number of one to nine digits")
	}
	c := Crypto{Tag: uint32(tag), Suite: Suite(fields[1])}
	keyLength, saltLength := c.Suite.Lengths()
	if keyLength == 0 {
		return Crypto{}, cryptoError("an unknown suite")
	}
	c.Suite = Suite(strings.Clone(fields[1]))
	for _, p := range fields[3:] {
		if !harmless(p) {
			return Crypto{}, cryptoError("a session parameter that we do not do")
		}
	}
	if c.Key, err = parseKey(fields[2], keyLength+saltLength); err != nil {
		return Crypto{}, err
	}
	return c, nil
}

func cryptoError(why string) error { return fmt.Errorf("a=crypto: %s", why) }

// parseKey reads "inline:base64[|lifetime][|MKI:length]" (RFC 4568 §6.1).
func parseKey(text string, length int) (Key, error) {
	method, info, _ := strings.Cut(text, ":")
	if !strings.EqualFold(method, "inline") {
		return nil, cryptoError("a key that is not inline")
	}
	if strings.Contains(info, ";") {
		return nil, cryptoError("several keys")
	}
	parts := strings.Split(info, "|")
	key, err := base64.StdEncoding.Strict().DecodeString(parts[0])
	if err != nil || len(key) != length || strings.ContainsAny(parts[0], "\r\n") {
		return nil, cryptoError("a key that is no base64, or not of the suite's length")
	}
	switch {
	case len(parts) == 2 && !strings.Contains(parts[1], ":"):
		if err := checkLifetime(parts[1]); err != nil {
			return nil, err
		}
	case len(parts) > 1:
		return nil, cryptoError("a master key identifier")
	}
	return key, nil
}

// checkLifetime reads "2^20" or a number of packets. SRTP allows 2^48 (RFC 3711 §9.2).
func checkLifetime(text string) error {
	exponent, power := strings.CutPrefix(text, "2^")
	n, err := strconv.ParseUint(exponent, 10, 64)
	if power && err == nil {
		if n > 48 {
			return cryptoError("a lifetime of more than 2^48 packets")
		}
		n = 1 << n
	}
	switch {
	case err != nil || bits.Len64(n) > 49:
		return cryptoError("a lifetime that is no number of packets")
	case n < minLifetime:
		return cryptoError("a lifetime too short for a call")
	}
	return nil
}

// harmless reports whether a session parameter (RFC 4568 §6.3) may be passed over: a hint of the replay window's size,
// what goes without saying, and extensions that say so themselves.
func harmless(parameter string) bool {
	if size, ok := strings.CutPrefix(parameter, "WSH="); ok {
		n, err := strconv.ParseUint(size, 10, 32)
		return err == nil && n >= 64
	}
	return parameter == "KDR=0" || len(parameter) > 1 && parameter[0] == '-'
}

// Kinds are what may be agreed to by signalling that nobody else can read.
func (s Security) Kinds() Kinds {
	switch s {
	case Optional:
		return Plain | Keyed | Shaken
	case Required:
		return Keyed | Shaken
	}
	return Plain
}

// kinds are those of which the line's profile speaks.
func (l Line) kinds() Kinds {
	switch l.Proto {
	case "RTP/AVP", "RTP/AVPF": // with keys it is RFC 8643
		return Plain | Keyed
	case "RTP/SAVP", "RTP/SAVPF": // with a fingerprint as it was before RFC 5764
		return Keyed | Shaken
	case "UDP/TLS/RTP/SAVP", "UDP/TLS/RTP/SAVPF":
		return Shaken
	}
	return 0
}

// usable reports whether the line is audio as we relay it. The feedback profile may be used without feedback.
func (l Line) usable(kinds Kinds) bool {
	if kinds&(Keyed|Shaken) != 0 {
		kinds |= Plain // to say what is missing
	}
	return l.Media == "audio" && l.kinds()&kinds != 0
}

// cryptos lists the a=crypto lines of a stream that we can do, in their order.
func cryptos(m *pion.MediaDescription) (list []Crypto, why error) {
	seen := 0
	for _, a := range m.Attributes {
		if a.Key != "crypto" || seen == maxCrypto {
			continue
		}
		seen++
		c, err := ParseCrypto(a.Value)
		if err != nil {
			why = err
			continue
		}
		list = append(list, c)
	}
	return list, why
}

// secure takes the keys of an audio line, or its fingerprints; or says why the line is not secure enough, or not usable.
func (d *Stream) secure(s *pion.SessionDescription, m *pion.MediaDescription, line Line, kinds Kinds) (why string, err error) {
	able := line.kinds() & kinds
	if able&Keyed != 0 {
		list, wrong := cryptos(m)
		if len(list) > 0 {
			d.Crypto = list
			return "", nil
		}
		why = "no a=crypto on the audio line, though it is " + line.Proto
		if wrong != nil {
			why = "no a=crypto on the audio line that could be used: " + wrong.Error()
		}
	}
	if able&Shaken != 0 {
		missing := why
		if why, err = d.shake(s, m, line); why == "" || missing == "" || err != nil {
			return why, err
		}
		return missing, nil
	}
	switch {
	case able&Plain != 0:
		return "", nil
	case line.kinds()&Plain != 0:
		return "the audio is not encrypted, and has to be", nil
	}
	return why, nil
}

// Checked reports whether ICE tells where the describer is, in place of the address in its description.
func (d *Stream) Checked() bool { return d.ICE != nil && !d.ICE.Lite }
