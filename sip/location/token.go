package location

import "strings"

// tokens are the push tokens of a target in canonical form: equal tokens are
// one token, however the device wrote them. They are what must not belong to
// two devices: a push for one would ring the other.
type tokens struct {
	provider string // in lower case; apns.dev is apns, whose tokens it has
	call     string // for call pushes
	alert    string // for alerts, "" if there is none
}

// token is one of them.
type token struct{ provider, value string }

// The services of an APNs token, behind its colon in "HEX:voip&HEX:remote".
const (
	serviceVoIP   = "voip"
	serviceRemote = "remote"
)

// tokens reads pn-prid. Apple's tokens are hexadecimal digits of either case,
// and Linphone's form has two of them in either order; of other services
// nothing is known, so that they are taken as they are.
func (t Target) tokens() tokens {
	out := tokens{provider: strings.ToLower(t.Provider), call: t.PRID}
	if out.provider == "apns.dev" {
		out.provider = "apns"
	}
	if out.provider != "apns" {
		return out
	}
	prid := strings.ToLower(t.PRID)
	var call, alert string
	for part := range strings.SplitSeq(prid, "&") {
		switch value, service, _ := strings.Cut(part, ":"); {
		case (service == "" || service == serviceVoIP) && call == "":
			call = value
		case service == serviceRemote && alert == "":
			alert = value
		}
	}
	switch {
	case call == "" && alert == "":
		call = prid // whatever that may be
	case call == prid && strings.HasSuffix(strings.ToLower(t.Param), "."+serviceRemote):
		call, alert = "", call // pn-param says what the bare token is
	}
	out.call, out.alert = call, alert
	return out
}

// each yields the tokens that there are.
func (t tokens) each(yield func(token) bool) {
	if t.call != "" && !yield(token{t.provider, t.call}) {
		return
	}
	if t.alert != "" && t.alert != t.call {
		yield(token{t.provider, t.alert})
	}
}

// name is what a device without an instance is known by. An alert token that
// comes or goes beside the one for calls makes it no other device.
func (t tokens) name() string {
	if t.call != "" {
		return t.provider + " " + t.call
	}
	return t.provider + " " + t.alert
}

// The kinds of push that a target may have a token for.
const (
	KindVoIP  = "voip"  // starts the app and rings (PushKit)
	KindAlert = "alert" // shows a notification
)

// Kinds are those of an APNs target's tokens; nil for other services, whose
// tokens have none.
func (t Target) Kinds() []string {
	ts := t.tokens()
	if t.IsZero() || ts.provider != "apns" {
		return nil
	}
	var kinds []string
	if ts.call != "" {
		kinds = append(kinds, KindVoIP)
	}
	if ts.alert != "" {
		kinds = append(kinds, KindAlert)
	}
	return kinds
}

// sameTarget reports whether two targets are one but for their keys and for
// what was learned.
func sameTarget(x, y Target) bool {
	return x.Param == y.Param && strings.EqualFold(x.Provider, y.Provider) && x.tokens() == y.tokens()
}

// learned is what is known of a target from the one that it replaces: the
// environment is the token's.
func learned(t, old Target) Target {
	if t.Environment == "" && strings.EqualFold(t.Provider, old.Provider) && t.tokens().name() == old.tokens().name() {
		t.Environment = old.Environment
	}
	return t
}

// claim enters the device's tokens. mu is held.
func (l *Service) claim(r *deviceRecord) {
	if r.Target.IsZero() {
		return
	}
	for k := range r.Target.tokens().each {
		l.tokens[k] = r
	}
}

// release takes the device's tokens out. mu is held.
func (l *Service) release(r *deviceRecord) {
	for k := range r.Target.tokens().each {
		if l.tokens[k] == r {
			delete(l.tokens, k)
		}
	}
}

// evict takes the target off every device but keeper that has one of the
// tokens of t, of whichever AOR. What it writes goes to the store together with
// what is written next. mu is held.
func (l *Service) evict(keeper DeviceKey, t Target) {
	for k := range t.tokens().each {
		other := l.tokens[k]
		if other == nil || other.key() == keeper {
			continue
		}
		l.log.Info("push target moved to another device", "aor", keeper.AOR, "device", keeper.ID,
			"from_aor", other.AOR, "from_device", other.ID)
		if a := l.accounts[other.AOR]; a != nil {
			l.dropTarget(a, other.ID)
			l.prune(a)
		}
	}
}
