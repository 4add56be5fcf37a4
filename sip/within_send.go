package sip

import (
	"context"
	"errors"
	"strings"

	sipgo "github.com/emiago/sipgo/sip"
)

// Outgoing is a request to send within a dialog. Nothing of a request that came
// by another leg gets into it but what is named here.
type Outgoing struct {
	Method      string // INFO, MESSAGE, REFER, NOTIFY
	ContentType string // of Body
	Body        []byte
	Headers     []Header // values are cleaned of line ends
}

// Reply is the final answer to an Outgoing.
type Reply struct {
	Code           int    // 408 and 430 are also made here: no answer, no way to the far end
	Phrase         string // as the far end gave it, cleaned
	Local          bool   // made here, the far end sent nothing
	NoSubscription bool   // it has taken a REFER without a subscription (RFC 4488 §4)
}

// Send sends a request within the dialog, on the newest flow of the far end,
// and waits for the final answer, until ctx ends at the longest. A challenge of
// the trunk's is answered once. A 481 to an INFO or MESSAGE ends the leg: the
// far end has lost the dialog. A 408, or silence, ends nothing: it says no more
// than that this one request was not answered (RFC 5057 §5.1).
func (l *leg) Send(ctx context.Context, o Outgoing) Reply {
	res, err := l.transact(ctx, o, false)
	if err == nil && (res.StatusCode == 401 || res.StatusCode == 407) && l.canLogin(res) {
		res, err = l.transact(ctx, o, true)
	}
	if err != nil {
		l.log.Debug(o.Method+" was not answered", "err", err)
		code := 408
		if errors.Is(err, errFlowClosed) {
			code = 430
		}
		return Reply{Code: code, Phrase: Phrase(code), Local: true}
	}
	if res.StatusCode == 481 && (o.Method == "INFO" || o.Method == "MESSAGE") {
		l.lost(481)
	}
	return Reply{
		Code: res.StatusCode, Phrase: SanitiseText(res.Reason, maxCallerName),
		NoSubscription: strings.EqualFold(headerValue(res, "Refer-Sub"), "false"),
	}
}

// transact is one transaction of a request within the dialog.
func (l *leg) transact(ctx context.Context, o Outgoing, login bool) (*sipgo.Response, error) {
	req, err := l.compose(o)
	if err != nil {
		return nil, err
	}
	f, err := l.path()
	if err != nil {
		return nil, err
	}
	if login {
		if err := l.credentials().authorize(req); err != nil {
			return nil, err
		}
	}
	return l.srv.exchange(ctx, f, l.srv.withVia(req, f))
}

func (l *leg) compose(o Outgoing) (*sipgo.Request, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over || !l.confirmed {
		return nil, errLegOver
	}
	req := l.newRequest(sipgo.RequestMethod(o.Method))
	if o.Method == "REFER" || o.Method == "NOTIFY" { // target refresh requests (RFC 3515 §2.2, RFC 6665 §4.4.1)
		req.AppendHeader(l.srv.contactHeader(l.flow))
	}
	for _, h := range o.Headers {
		req.AppendHeader(sipgo.NewHeader(h.Name, SanitiseText(h.Value, maxHeaderValue)))
	}
	if len(o.Body) > 0 {
		ct := sipgo.ContentTypeHeader(SanitiseText(o.ContentType, 128))
		req.AppendHeader(&ct)
		req.SetBody(o.Body)
	}
	return req, nil
}

// exchange sends a request that is not INVITE and waits for its final answer.
func (s *Server) exchange(ctx context.Context, f *flow, req *sipgo.Request) (*sipgo.Response, error) {
	return s.exchangeOrElse(ctx, f, req, 0)
}
