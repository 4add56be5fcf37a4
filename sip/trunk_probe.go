package sip

import (
	"context"
	"errors"
	"fmt"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

// keepProbing sends OPTIONS to a peer; any answer means that it is there
// (RFC 3261 §11).
func (t *Trunk) keepProbing(ctx context.Context) {
	if len(t.singles()) == 0 {
		return
	}
	for {
		err := t.probe(ctx)
		if ctx.Err() != nil {
			return
		}
		t.set(func(s *TrunkState) {
			s.Up, s.State, s.LastError = err == nil, "reachable", ""
			if err != nil {
				s.State, s.LastError = "unreachable", "no answer to OPTIONS: "+err.Error()
			}
			s.NextTry, s.Target = time.Now().Add(t.cfg.OptionsInterval), t.up.inUse()
		})
		if !sleep(ctx, t.cfg.OptionsInterval) {
			return
		}
	}
}

// errNotServing is an answer to OPTIONS that means: not here, not now.
var errNotServing = errors.New("it answers that it cannot serve")

func (t *Trunk) probe(ctx context.Context) error {
	f, err := t.up.connect(ctx)
	if err != nil {
		return err
	}
	res, err := t.srv.exchangeOrElse(ctx, f, t.newOptions(f), targetPatience)
	if err != nil {
		t.up.failed(f, true, 0)
		return err
	}
	if res.StatusCode == 408 || res.StatusCode == 503 {
		t.up.failed(f, false, retryAfter(res))
		return fmt.Errorf("%w: %d %s", errNotServing, res.StatusCode, SanitiseText(res.Reason, 64))
	}
	return nil
}

func (t *Trunk) newOptions(f *flow) *sipgo.Request {
	u := sipgo.Uri{Scheme: "sip", Host: uriHost(f.remote().Addr())}
	if port := f.remote().Port(); port != 5060 {
		u.Port = int(port)
	}
	req := sipgo.NewRequest(sipgo.OPTIONS, u)
	req.AppendHeader(t.srv.via(f))
	maxForwards := sipgo.MaxForwardsHeader(70)
	req.AppendHeader(&maxForwards)
	req.AppendHeader(&sipgo.FromHeader{Address: t.srv.ownURI("", f), Params: party{tag: newTag()}.params()})
	req.AppendHeader(&sipgo.ToHeader{Address: *u.Clone()})
	callID := sipgo.CallIDHeader(newTag() + newTag())
	req.AppendHeader(&callID)
	req.AppendHeader(&sipgo.CSeqHeader{SeqNo: 1, MethodName: sipgo.OPTIONS})
	req.AppendHeader(t.srv.contactHeader(f))
	return req
}
