package sip

import (
	"fmt"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	sipgo "github.com/emiago/sipgo/sip"

	"reveille/sip/location"
)

// Bounds on what one Contact makes us keep, in bytes. An instance is a URN of
// 45 characters; FCM tokens run to some 200, and RFC 8599 sets no limit.
const (
	maxInstance = 256
	maxURI      = 2048
)

// update reads the Contacts of a REGISTER (RFC 3261 §10.3 steps 6 and 7).
func (r *registrar) update(x *registration) (location.Update, *registerRefusal) {
	u := location.Update{
		AOR: x.aor, CallID: string(*x.req.CallID()), CSeq: x.req.CSeq().SeqNo,
		FlowID: x.f.id(), Transport: x.f.transport(), Remote: x.f.remote().String(),
		UserAgent: SanitiseText(headerValue(x.req, "User-Agent"), 128), MaxContacts: r.cfg.Registration.MaxContacts,
	}
	if s, ok := r.o.Accounts.(Sleepers); ok {
		u.KeepTargets = s.KeepsPush(x.aor)
	}
	contacts := contacts(x.req)
	for _, c := range contacts {
		if c.Address.Wildcard {
			if len(contacts) > 1 || headerValue(x.req, "Expires") != "0" {
				return u, refuseRegister(400, "Contact * Stands Alone With Expires 0")
			}
			u.RemoveAll = true
			return u, nil
		}
		contact, refused := r.contact(x, c)
		if refused != nil {
			return u, refused
		}
		u.Contacts = append(u.Contacts, contact)
	}
	u.Path = x.pathValue()
	return u, x.applyOutbound(u.Contacts)
}

func contacts(m sipgo.Message) []*sipgo.ContactHeader {
	var out []*sipgo.ContactHeader
	for _, h := range m.GetHeaders("Contact") {
		if c, ok := h.(*sipgo.ContactHeader); ok {
			out = append(out, c)
		}
	}
	return out
}

func (r *registrar) contact(x *registration, c *sipgo.ContactHeader) (location.Contact, *registerRefusal) {
	uri := &c.Address
	if uri.Scheme != "sip" && uri.Scheme != "sips" || !plainHost(uri.Host) || len(uri.Headers) > 0 {
		return location.Contact{}, refuseRegister(400, "Contact Is Not a Plain SIP URI")
	}
	out := location.Contact{URI: uri.String(), Key: contactKey(uri), Q: qvalue(c.Params)}
	if again, err := parseURI(out.URI); err != nil || contactKey(&again) != out.Key {
		// Written by us it means something else: nobody could be called there.
		return out, refuseRegister(400, "Contact Is Not a Plain SIP URI")
	}
	if len(out.URI) > maxURI {
		return out, refuseRegister(400, "Contact Too Long")
	}
	if instance, ok := paramOf(c.Params, "+sip.instance"); ok {
		out.Instance = strings.Trim(instance, "<>")
		if len(out.Instance) > maxInstance {
			return out, refuseRegister(400, "Instance Too Long")
		}
	}
	if id, ok := paramOf(c.Params, "reg-id"); ok && out.Instance != "" {
		// reg-id counts only beside an instance (RFC 5626 §6); 1 to 2^31-1.
		if n, err := strconv.ParseInt(id, 10, 32); err == nil && n > 0 {
			out.RegID = int(n)
		}
	}
	var refused *registerRefusal
	out.Expires, refused = r.expiry(x.req, c)
	x.push.add(c, &out)
	return out, refused
}

// applyOutbound decides on outbound processing (RFC 5626 §6): the phone must
// say that it can, and must talk to us directly, or to a proxy that can.
func (x *registration) applyOutbound(contacts []location.Contact) *registerRefusal {
	flows, added := 0, 0
	for _, c := range contacts {
		if c.Expires <= 0 {
			continue
		}
		added++
		if c.RegID > 0 {
			flows++
		}
	}
	if flows > 0 && added > 1 {
		return refuseRegister(400, "One Contact Only With reg-id")
	}
	able := hasToken(x.req, "Supported", "outbound") || hasToken(x.req, "Require", "outbound")
	if flows > 0 && able && !x.firstHopIsOutbound() {
		return refuseRegister(439, "First Hop Lacks Outbound Support")
	}
	x.outbd = flows > 0 && able
	return nil
}

// expiry is what a Contact is granted: its parameter, else the Expires header,
// else the default; 0 removes (RFC 3261 §10.3 step 6).
func (r *registrar) expiry(req *sipgo.Request, c *sipgo.ContactHeader) (time.Duration, *registerRefusal) {
	reg := r.cfg.Registration
	asked, ok := paramOf(c.Params, "expires")
	if !ok {
		asked = headerValue(req, "Expires")
	}
	granted := parseExpires(asked, reg.Default)
	switch {
	case granted == 0:
		return 0, nil
	case granted < reg.Min && granted < time.Hour:
		return 0, refuseRegister(423, "Interval Too Brief", sipgo.NewHeader("Min-Expires", wholeSeconds(reg.Min)))
	}
	return min(max(granted, reg.Min), reg.Max), nil
}

// parseExpires reads delta-seconds; what can't be read counts as absent (RFC
// 3261 §20.10).
func parseExpires(s string, absent time.Duration) time.Duration {
	s = strings.TrimSpace(s)
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' }) {
		return absent
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		n = math.MaxUint32 // too large for 32 bits is as long as can be
	}
	return time.Duration(n) * time.Second
}

func wholeSeconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// qvalue is the Contact's preference from 0 to 1; 1 if it says nothing that can
// be read (RFC 3261 §20.10).
func qvalue(params sipgo.HeaderParams) float32 {
	s, ok := paramOf(params, "q")
	if !ok {
		return 1
	}
	q, err := strconv.ParseFloat(s, 32)
	if err != nil || !(q >= 0 && q <= 1) {
		return 1
	}
	return float32(q)
}

// contactKey is the URI in a form that is the same for equal URIs (RFC 3261
// §19.1.4), as far as registrations need it: the parameters that a phone
// changes without being another one, and the push token, stay out.
func contactKey(u *sipgo.Uri) string {
	port := u.Port
	if port == 0 {
		port = 5060
		if u.Scheme == "sips" {
			port = 5061
		}
	}
	key := u.Scheme + ":" + unescapeURI(u.User) + "@" + net.JoinHostPort(strings.ToLower(strings.Trim(u.Host, "[]")), strconv.Itoa(port))
	for _, name := range []string{"transport", "user", "method", "maddr", "ttl"} {
		if v, ok := paramOf(u.UriParams, name); ok {
			key += ";" + name + "=" + strings.ToLower(v)
		}
	}
	return key
}

// accepted builds the 200: every binding with the time it has left.
func (r *registrar) accepted(x *registration, bindings []location.Binding) *sipgo.Response {
	res := sipgo.NewResponseFromRequest(x.req, 200, "OK", nil)
	now := time.Now()
	for _, b := range bindings {
		own := b.CallID == string(*x.req.CallID()) && b.CSeq == x.req.CSeq().SeqNo
		res.AppendHeader(sipgo.NewHeader("Contact", contactValue(b, own, now)))
	}
	res.AppendHeader(sipgo.NewHeader("Date", now.UTC().Format(http.TimeFormat))) // RFC 3261 §20.17
	if len(x.path) > 0 && hasToken(x.req, "Supported", "path") {                 // RFC 3327 §5.3
		res.AppendHeader(sipgo.NewHeader("Path", x.pathValue()))
	}
	if x.outbd {
		res.AppendHeader(sipgo.NewHeader("Require", "outbound"))
		res.AppendHeader(sipgo.NewHeader("Flow-Timer", strconv.Itoa(flowTimer)))
	}
	for _, v := range r.featureCaps(x) {
		res.AppendHeader(sipgo.NewHeader("Feature-Caps", v))
	}
	return res
}

// contactValue is a binding as the 200 lists it. A phone finds its own entry by
// comparing URIs, so that one is as it was sent; the token of another device is
// not this one's business.
func contactValue(b location.Binding, own bool, now time.Time) string {
	uri := b.Contact
	if !own {
		uri = withoutToken(uri)
	}
	left := max(b.Expires.Sub(now), 0)
	v := "<" + uri + ">;expires=" + wholeSeconds(left)
	if b.Instance != "" {
		v += ";+sip.instance=" + Quote("<"+b.Instance+">")
	}
	if b.RegID > 0 {
		v += ";reg-id=" + strconv.Itoa(b.RegID)
	}
	if b.Q < 1 {
		v += ";q=" + fmt.Sprintf("%.3g", b.Q)
	}
	return v
}
