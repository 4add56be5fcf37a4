package sip

import (
	"strings"
	"sync"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

// Request is a request of the far end's within a dialog that the call has to
// answer: INFO (RFC 6086), MESSAGE (RFC 3428 §7), REFER (RFC 3515) or NOTIFY
// (RFC 6665). Who takes it must Answer it once; a leg that ends answers those
// that wait with 487.
type Request struct {
	Method      string
	ContentType string // cleaned; "" without a body
	InfoPackage string // of an INFO; "" for the old kind (RFC 2976)
	Body        []byte // not longer than MaxBody

	Refer       *Refer       // of a REFER; valid
	Notice      *Notice      // of a NOTIFY
	Replacement *Replacement // of an INVITE that would take the leg's place

	leg *leg
	tx  *serverTx

	mu       sync.Mutex // guards the following
	answered bool
	trying   *time.Timer // nil for an INVITE, which has its 100
}

// MaxBody bounds the body of a request within a dialog, in bytes: what a SIP
// MESSAGE or a DTMF digit needs and no more.
const MaxBody = 8 << 10

// requestRoom is how many requests of the far end may wait on one leg.
const requestRoom = 8

// lateTrying is when a request that is not INVITE and has no answer yet gets a
// 100: when the sender's Timer E reaches T2, and never sooner (RFC 4320 §4.1).
const lateTrying = 7 * timerT1

// Requests yields what the far end asks within the dialog besides re-INVITEs.
// It is for after the answer; before that the stack answers for itself.
func (l *leg) Requests() <-chan *Request {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.queue()
}

// queue makes the channel when it is first needed: a parked call has none. The
// caller holds l.mu.
func (l *leg) queue() chan *Request {
	if l.requests == nil {
		l.requests = make(chan *Request, requestRoom)
	}
	return l.requests
}

// asked takes an INFO, MESSAGE, REFER or NOTIFY. It runs on the flow's reader.
func (l *leg) asked(req *sipgo.Request, tx *serverTx) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, refused := newRequest(req)
	switch {
	case l.over:
		l.refuse(tx, &Refused{Code: 481})
		return
	case refused != nil:
		l.refuse(tx, refused)
		return
	case !l.confirmed:
		l.askedEarly(r, tx)
		return
	}
	r.leg, r.tx = l, tx
	r.trying = time.AfterFunc(lateTrying, r.try)
	select {
	case l.queue() <- r:
	default: // the call is slower than the far end
		r.trying.Stop()
		l.refuse(tx, overlapping())
	}
}

// askedEarly answers in a dialog that is not confirmed: there is nobody yet to
// whom a request could be passed. An INFO was received and belongs to a live
// dialog, so that it is a 200 even if nobody hears the digit (RFC 2976 §2.2);
// a text would be lost, so its sender hears that; without a call there is
// nothing to transfer, and without a subscription no NOTIFY (RFC 6665 §4.1.3).
func (l *leg) askedEarly(r *Request, tx *serverTx) {
	switch r.Method {
	case "INFO":
		l.srv.answer(tx, 200)
	case "NOTIFY":
		l.refuse(tx, &Refused{Code: 481, Phrase: "Subscription Does Not Exist"})
	default:
		l.refuse(tx, &Refused{Code: 480})
	}
}

// newRequest reads a request; the refusal says what is wrong with it.
func newRequest(req *sipgo.Request) (*Request, *Refused) {
	r := &Request{Method: string(req.Method), Body: req.Body()}
	if len(r.Body) > MaxBody {
		return nil, &Refused{Code: 413, Phrase: "Request Entity Too Large"}
	}
	if len(r.Body) > 0 {
		encoding := headerValue(req, "Content-Encoding")
		r.ContentType = contentType(req)
		if r.ContentType == "" || encoding != "" && !strings.EqualFold(encoding, "identity") {
			return nil, &Refused{Code: 415}
		}
	}
	switch req.Method {
	case sipgo.INFO:
		r.InfoPackage = SanitiseToken(headerValue(req, "Info-Package"), 64)
	case sipgo.REFER:
		refer, refused := parseRefer(req)
		r.Refer = refer
		return r, refused
	case sipgo.NOTIFY:
		r.Notice = parseNotice(req)
	}
	return r, nil
}

// contentType is the media type in lower case, with a charset if there is one
// and nothing else: it goes to the other leg. "" if it cannot be read.
func contentType(req *sipgo.Request) string {
	h := req.ContentType()
	if h == nil {
		return ""
	}
	pieces, ok := splitOutside(h.Value(), ';')
	kind := strings.ToLower(strings.TrimSpace(pieces[0]))
	major, minor, found := strings.Cut(kind, "/")
	if !ok || !found || !isToken(major) || !isToken(minor) || len(kind) > 64 {
		return ""
	}
	if params, err := parseParams(pieces[1:]); err == nil {
		if charset, _ := paramOf(params, "charset"); isToken(charset) && len(charset) <= 32 {
			kind += ";charset=" + charset
		}
	}
	return kind
}

// try sends the late 100.
func (r *Request) try() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.answered {
		return
	}
	if err := r.tx.respond(r.leg.srv.response(r.tx, 100, nil)); err != nil {
		r.leg.log.Debug("100 could not be sent", "err", err)
	}
}

// Answer sends the final answer, of 200 or more; only the first counts. An
// empty phrase is the RFC's. The values of the headers are cleaned of line
// ends. A 408 would be a lie that no one hears (RFC 4320 §4.2): 504 goes out.
func (r *Request) Answer(code int, phrase string, extra ...Header) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.answered {
		return
	}
	r.answered = true
	if r.trying != nil {
		r.trying.Stop()
	}
	if code == 408 {
		code, phrase = 504, "Server Time-out"
	}
	res := r.leg.srv.response(r.tx, code, nil)
	if phrase = SanitiseText(phrase, maxCallerName); phrase != "" {
		res.Reason = phrase
	}
	for _, h := range extra {
		res.AppendHeader(sipgo.NewHeader(h.Name, SanitiseText(h.Value, maxHeaderValue)))
	}
	if r.Method == "REFER" && code/100 == 2 {
		r.leg.srv.addContact(res, r.tx.flow())
	}
	if err := r.tx.respond(res); err != nil {
		r.leg.log.Debug("an answer within the dialog could not be sent", "code", code, "err", err)
	}
}

// leaveUnanswered answers what still waits when the leg ends (RFC 3261
// §15.1.2). The caller holds l.mu.
func (l *leg) leaveUnanswered() {
	for {
		select {
		case r := <-l.requests:
			r.Answer(487, "")
		default: // also where there is no channel
			return
		}
	}
}

// taken reports whether the method is one that the call answers.
func taken(method sipgo.RequestMethod) bool {
	switch method {
	case sipgo.INFO, sipgo.MESSAGE, sipgo.REFER, sipgo.NOTIFY:
		return true
	}
	return false
}
