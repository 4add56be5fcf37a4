package sip

import (
	"encoding/base64"
	"encoding/json"
	"hash/fnv"
	"strings"

	sipgo "github.com/emiago/sipgo/sip"
)

// LoopHeader stands in INVITEs to devices: which servers the call has passed.
// One that comes back to us, by a PBX that is registered as a device, say, has
// our mark in it (in the manner of RFC 5393, for a B2BUA, which leaves no Via).
const LoopHeader = "X-Reveille-Loop"

// maxLoopMarks bounds the marks of others that are passed on.
const maxLoopMarks = 10

// loopMarks are the marks that an INVITE came with.
func loopMarks(req *sipgo.Request) []string {
	var out []string
	for _, v := range headerList(req, LoopHeader) {
		if v = SanitiseToken(v, 32); v != "" && len(out) < maxLoopMarks {
			out = append(out, v)
		}
	}
	return out
}

// LoopTrail is the value of LoopHeader for the INVITEs to devices that follow
// from this one.
func (in *Inbound) LoopTrail() string {
	if in.trail == "" {
		return in.srv.loopMark
	}
	return in.trail + ", " + in.srv.loopMark
}

// Proofs are what tells this call from all others, hashed: two INVITEs with one
// of them in common are the same call that came by two ways. They are the
// Call-ID, the Session-ID (RFC 7989), the icid-value of P-Charging-Vector (RFC
// 7315 §4.6) and the origid of Identity (RFC 8588 §5).
func (in *Inbound) Proofs() []uint64 { return in.proofs }

func proofsOf(req *sipgo.Request) []uint64 {
	var out []uint64
	add := func(kind, value string) {
		if value != "" {
			h := fnv.New64a()
			_, _ = h.Write([]byte(kind + value)) // never fails
			out = append(out, h.Sum64())
		}
	}
	add("call-id ", callIDOf(req))
	session, _, _ := strings.Cut(headerValue(req, "Session-ID"), ";")
	if session = strings.ToLower(strings.TrimSpace(session)); strings.Trim(session, "0") != "" { // nil: none yet
		add("session-id ", session)
	}
	add("icid ", chargingID(headerValue(req, "P-Charging-Vector")))
	for _, v := range headerList(req, "Identity") {
		add("origid ", originID(v))
	}
	return out
}

// chargingID is the icid-value of a P-Charging-Vector.
func chargingID(value string) string {
	pieces, ok := splitOutside(value, ';')
	if !ok {
		return ""
	}
	params, err := parseParams(pieces)
	if err != nil {
		return ""
	}
	id, _ := paramOf(params, "icid-value")
	return id
}

// originID is the origid claim of a PASSporT. It is not verified: it comes from
// a trunk, and can only make two calls of that trunk's caller one.
func originID(identity string) string {
	token, _, _ := strings.Cut(identity, ";")
	parts := strings.Split(token, ".")
	if len(parts) != 3 || len(parts[1]) > 4096 {
		return ""
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		OrigID string `json:"origid"`
	}
	if err != nil || json.Unmarshal(b, &claims) != nil {
		return ""
	}
	return claims.OrigID
}
