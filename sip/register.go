package sip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	sipgo "github.com/emiago/sipgo/sip"

	"reveille/sip/location"
)

// flowTimer is the number of seconds within which a phone that registered with
// outbound must show a sign of life (RFC 5626 §4.4.1). The transport closes a
// silent connection 30 s later.
const flowTimer = 120

// putTimeout bounds the wait for the disk. A UDP phone gives its REGISTER up
// after 32 s.
const putTimeout = 10 * time.Second

type registrarOptions struct {
	Log      *slog.Logger
	Location *location.Service
	Accounts Accounts
	Push     PushSupport         // nil: no push service at all
	Rejected func(reason string) // counts
	Keep     func(f *flow)       // the flow carries a registration from now on
	Guard    *guard              // nil: no limits
}

// registrar turns REGISTERs into bindings, devices and push targets (RFC 3261
// §10.3, RFC 5626 §6, RFC 8599 §5). It knows nothing of calls.
type registrar struct {
	cfg    Config
	o      registrarOptions
	log    *slog.Logger
	digest *digestServer
	edges  edges
	gripes gripes

	patience chan struct{} // see guess
}

func newRegistrar(cfg Config, o registrarOptions) (*registrar, error) {
	if o.Location == nil || o.Accounts == nil {
		return nil, errors.New("sip: a registrar needs a location service and accounts")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Rejected == nil {
		o.Rejected = func(string) {}
	}
	if o.Keep == nil {
		o.Keep = func(*flow) {}
	}
	return &registrar{cfg: cfg, o: o, log: o.Log, edges: cfg.edges(), digest: newDigestServer(cfg, o.Accounts, o.Rejected),
		patience: make(chan struct{}, patientRefusals)}, nil
}

// registration is one REGISTER on its way through the steps below.
type registration struct {
	f     *flow
	req   *sipgo.Request
	tx    *serverTx
	aor   string
	push  pushing
	path  []sipgo.Uri // the proxies on the way to the phone, ours first
	outbd bool        // outbound processing applies
}

// registerRefusal is the answer to a REGISTER that fails.
type registerRefusal struct {
	code    int
	phrase  string
	headers []sipgo.Header
}

func (r *registerRefusal) Error() string { return fmt.Sprintf("%d %s", r.code, r.phrase) }

func refuseRegister(code int, phrase string, headers ...sipgo.Header) *registerRefusal {
	return &registerRefusal{code, phrase, headers}
}

// handle answers one REGISTER. It runs on a goroutine of its own, since it may
// wait for the disk.
func (r *registrar) handle(f *flow, req *sipgo.Request, tx *serverTx) {
	x := &registration{f: f, req: req, tx: tx}
	if refused := r.accept(x); refused != nil {
		r.refuse(x, refused)
		return
	}
	update, refused := r.update(x)
	if refused == nil {
		refused = r.checkPush(x)
	}
	if refused != nil {
		r.refuse(x, refused)
		return
	}
	r.apply(x, update)
}

// accept authenticates the sender and finds the AOR that it owns.
func (r *registrar) accept(x *registration) *registerRefusal {
	if unknown := unsupported(x.req); len(unknown) > 0 {
		return refuseRegister(420, "Bad Extension", sipgo.NewHeader("Unsupported", strings.Join(unknown, ", ")))
	}
	if refused := r.guess(x); refused != nil {
		return refused
	}
	user, no := r.digest.authenticate(x.req, x.f.remote().Addr())
	if no != nil {
		return r.deny(x, no)
	}
	r.o.Guard.loggedIn(x.f, user)
	aor, domain := addressOfRecord(x.req.To())
	if aor != user {
		r.o.Rejected("register_foreign_aor")
		return refuseRegister(403, "Not Your Address-of-Record")
	}
	if domain != "" && len(r.cfg.Domains) > 0 && !slices.ContainsFunc(r.cfg.Domains, func(d string) bool { return strings.EqualFold(d, domain) }) {
		return refuseRegister(404, "Not a Domain of This Registrar")
	}
	x.aor = aor
	return r.readPath(x)
}

// unsupported lists the option tags of Require that we do not know (RFC 3261
// §8.2.2.3).
func unsupported(req *sipgo.Request) []string {
	return slices.DeleteFunc(required(req), func(tag string) bool {
		return strings.EqualFold(tag, "outbound") || strings.EqualFold(tag, "path")
	})
}

// addressOfRecord is the user and host of To. The user is compared case by
// case, with its escapes resolved (RFC 3261 §10.3 step 5).
func addressOfRecord(to *sipgo.ToHeader) (user, host string) {
	u := to.Address
	if u.Scheme == "tel" {
		number, _, _ := strings.Cut(u.Raw(), ";")
		return number, ""
	}
	return unescapeURI(u.User), u.Host
}

// unescapeURI resolves %HH; what is not a proper escape stays as it is.
func unescapeURI(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// deny is the answer to a request that is not authenticated. It is the same
// whether the extension exists or not.
func (r *registrar) deny(x *registration, no *denied) *registerRefusal {
	if no.reason == "auth_failed" {
		r.o.Guard.failed(x.f, no.user)
	}
	if no.reason == "auth_failed" && r.gripes.allow(time.Now()) {
		r.log.Info("REGISTER with a wrong password or unknown extension", "aor", SanitiseText(no.user, 64),
			"address", x.f.remote().String(), "user_agent", userAgent(x.req))
	}
	if no.status != 401 {
		return refuseRegister(no.status, "Digest URI Is Not the Request-URI")
	}
	challenge := sipgo.NewResponse(401, "")
	r.digest.challenge(challenge, x.req, x.f.remote().Addr(), no.stale)
	return refuseRegister(401, "Unauthorized", challenge.GetHeaders("WWW-Authenticate")...)
}

// apply stores the update, answers 200 and only then tells who waits for the
// device: no INVITE may overtake the 200.
func (r *registrar) apply(x *registration, u location.Update) {
	ctx, cancel := context.WithTimeout(context.Background(), putTimeout)
	defer cancel()
	change, err := r.o.Location.Put(ctx, u)
	switch {
	case errors.Is(err, location.ErrStaleCSeq):
		r.refuse(x, refuseRegister(400, "CSeq Is Not Higher Than Before"))
		return
	case errors.Is(err, location.ErrTooManyContacts):
		r.o.Rejected("register_too_many_contacts")
		r.refuse(x, refuseRegister(403, "Too Many Contacts"))
		return
	case err != nil:
		r.log.Error("a registration could not be stored", "aor", x.aor, "err", err)
		r.refuse(x, refuseRegister(500, "Registration Not Stored"))
		return
	}
	if slices.ContainsFunc(u.Contacts, func(c location.Contact) bool { return c.Expires > 0 }) {
		r.o.Keep(x.f)
	}
	if err := r.respond(x, r.accepted(x, change.Bindings)); err != nil || x.f.isDead() {
		change.Drop()
		return
	}
	change.Publish()
	r.log.Debug("registered", "aor", x.aor, "transport", x.f.transport(), "contacts", len(u.Contacts), "bindings", len(change.Bindings))
}

func (r *registrar) refuse(x *registration, no *registerRefusal) {
	if x.aor == "" {
		// Nobody has proved who he is, so nothing is kept: a retransmission
		// gets a challenge of its own (RFC 3261 §8.2.7).
		x.tx.leaveNoTrace()
	}
	if err := x.tx.respond(r.refusal(x, no)); err != nil {
		r.log.Debug("a REGISTER could not be answered", "code", no.code, "err", err)
	}
}

func (r *registrar) respond(x *registration, res *sipgo.Response) error {
	if r.cfg.UserAgent != "" {
		res.AppendHeader(sipgo.NewHeader("Server", r.cfg.UserAgent))
	}
	return x.tx.respond(res)
}
