package siptest

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// challenge is a WWW-Authenticate of the bridge's (RFC 7616, RFC 8760).
type challenge struct {
	realm, nonce, opaque, algorithm string
	qop                             bool
	uses                            int // of the nonce
}

// challengeOf takes the first challenge with the wanted algorithm; "" takes
// the first that is known here.
func challengeOf(m *Message, algorithm string) *challenge {
	for _, v := range m.All("WWW-Authenticate") {
		p := digestParams(v)
		c := &challenge{realm: p["realm"], nonce: p["nonce"], opaque: p["opaque"], algorithm: p["algorithm"], qop: strings.Contains(p["qop"], "auth")}
		if c.algorithm == "" {
			c.algorithm = "MD5"
		}
		if algorithm == "" && (c.algorithm == "MD5" || c.algorithm == "SHA-256") || algorithm == c.algorithm {
			return c
		}
	}
	return nil
}

func digestParams(value string) map[string]string {
	out := map[string]string{}
	_, value, _ = strings.Cut(value, " ")
	for value != "" {
		key, rest, _ := strings.Cut(value, "=")
		var val string
		if strings.HasPrefix(rest, `"`) {
			val, rest, _ = strings.Cut(rest[1:], `"`)
			_, rest, _ = strings.Cut(rest, ",")
		} else {
			val, rest, _ = strings.Cut(rest, ",")
		}
		out[strings.ToLower(strings.Trim(key, " ,"))] = strings.TrimSpace(val)
		value = rest
	}
	return out
}

// authorize gives the Authorization header's value for a request.
func (c *challenge) authorize(method, uri, user, password string) string {
	hash := func(s string) string {
		if c.algorithm == "SHA-256" {
			sum := sha256.Sum256([]byte(s))
			return hex.EncodeToString(sum[:])
		}
		sum := md5.Sum([]byte(s))
		return hex.EncodeToString(sum[:])
	}
	ha1, ha2 := hash(user+":"+c.realm+":"+password), hash(method+":"+uri)
	v := fmt.Sprintf(`Digest username="%s", realm="%s", nonce="%s", uri="%s", algorithm=%s`, user, c.realm, c.nonce, uri, c.algorithm)
	if c.opaque != "" {
		v += fmt.Sprintf(`, opaque="%s"`, c.opaque)
	}
	if !c.qop {
		return v + fmt.Sprintf(`, response="%s"`, hash(ha1+":"+c.nonce+":"+ha2))
	}
	c.uses++
	nc, cnonce := fmt.Sprintf("%08x", c.uses), token()
	return v + fmt.Sprintf(`, qop=auth, nc=%s, cnonce="%s", response="%s"`, nc, cnonce,
		hash(strings.Join([]string{ha1, c.nonce, nc, cnonce, "auth", ha2}, ":")))
}
