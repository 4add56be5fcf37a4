package sip

import (
	"context"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

// keepProbing sends OPTIONS to a peer given by one address; any answer means
// that it is there (RFC 3261 §11).
func (t *Trunk) keepProbing(ctx context.Context) {
	target := t.probeTarget()
	if target == "" {
		return
	}
	for {
		err := t.probe(ctx, target)
		if ctx.Err() != nil {
			return
		}
		t.set(func(s *TrunkState) {
			s.Up, s.State, s.LastError = err == nil, "reachable", ""
			if err != nil {
				s.State, s.LastError = "unreachable", "no answer to OPTIONS: "+err.Error()
			}
			s.NextTry = time.Now().Add(t.cfg.OptionsInterval)
		})
		if !sleep(ctx, t.cfg.OptionsInterval) {
			return
		}
	}
}

// probeTarget is the first peer that is one host; networks cannot be asked.
func (t *Trunk) probeTarget() string {
	for _, p := range t.prefixes {
		if p.IsSingleIP() {
			host := p.Addr().String()
			if p.Addr().Is6() {
				host = "[" + host + "]"
			}
			return "sip:" + host
		}
	}
	if len(t.hosts) > 0 {
		return "sip:" + t.hosts[0]
	}
	return ""
}

func (t *Trunk) probe(ctx context.Context, target string) error {
	f, err := t.flowTo(ctx, target)
	if err != nil {
		return err
	}
	u, err := parseURI(target)
	if err != nil {
		return err
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
	_, err = t.exchange(ctx, f, req)
	return err
}
