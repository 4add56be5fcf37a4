package sip

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

const (
	// missesToDown is how many OPTIONS in a row must fail: one may be lost.
	missesToDown = 2
	// probeSooner is how often a server that missed one is asked.
	probeSooner = 10 * time.Second
)

// reachability is what OPTIONS have told of a trunk's server.
type reachability struct {
	asked  bool
	misses int // in a row
	err    string
}

func (r reachability) down() bool { return r.misses >= missesToDown }

// keepProbing sends OPTIONS; any answer but 408 and 503 means that the server
// is there (RFC 3261 §11). It is down after two misses. One that comes back
// may have forgotten us, so that we register again.
func (t *Trunk) keepProbing(ctx context.Context) {
	if t.login == nil && len(t.singles()) == 0 {
		return
	}
	for {
		err := t.probe(ctx)
		if ctx.Err() != nil {
			return
		}
		wait := t.cfg.OptionsInterval
		var back bool
		t.set(func(s *TrunkState) {
			back = err == nil && t.reach.down()
			t.reach.asked, t.reach.misses, t.reach.err = true, t.reach.misses+1, ""
			if err == nil {
				t.reach.misses = 0
			} else {
				t.reach.err = "no answer to OPTIONS: " + err.Error()
				wait = min(wait, probeSooner)
			}
			t.compose(s)
			if t.login == nil {
				s.NextTry = time.Now().Add(wait)
			}
		})
		if back {
			t.up.back()
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

// errNotServing is an answer to OPTIONS that means: not here, not now.
var errNotServing = errors.New("it answers that it cannot serve")

// probe asks one target after the other until one answers.
func (t *Trunk) probe(ctx context.Context) (err error) {
	for range maxTargets {
		f, connectErr := t.up.connect(ctx)
		if connectErr != nil {
			return connectErr
		}
		if err = t.probeBy(ctx, f); err == nil || ctx.Err() != nil || !t.up.another() {
			return err
		}
	}
	return err
}

func (t *Trunk) probeBy(ctx context.Context, f *flow) error {
	res, err := t.srv.exchangeOrElse(ctx, f, t.newOptions(f), targetPatience)
	if ctx.Err() != nil {
		return err
	}
	if err != nil {
		t.up.failed(f, true, 0)
		return err
	}
	if res.StatusCode == 408 || res.StatusCode == 503 {
		t.up.failed(f, false, retryAfter(res))
		return fmt.Errorf("%w: %d %s", errNotServing, res.StatusCode, SanitiseText(res.Reason, 64))
	}
	t.up.saw(res)
	return nil
}

func (t *Trunk) newOptions(f *flow) *sipgo.Request {
	u := sipgo.Uri{Scheme: "sip", Host: uriHost(f.remote().Addr())}
	if port := f.remote().Port(); port != 5060 {
		u.Port = int(port)
	}
	if t.login != nil {
		u = *t.login.cfg.registrar.Clone()
		u.User = ""
	}
	req := sipgo.NewRequest(sipgo.OPTIONS, u)
	req.AppendHeader(t.srv.via(f))
	for _, route := range t.routes() {
		req.AppendHeader(sipgo.NewHeader("Route", "<"+route+">"))
	}
	maxForwards := sipgo.MaxForwardsHeader(70)
	req.AppendHeader(&maxForwards)
	req.AppendHeader(&sipgo.FromHeader{Address: t.srv.ownURI(t.cfg.Username, f), Params: party{tag: newTag()}.params()})
	req.AppendHeader(&sipgo.ToHeader{Address: *u.Clone()})
	callID := sipgo.CallIDHeader(newTag() + newTag())
	req.AppendHeader(&callID)
	req.AppendHeader(&sipgo.CSeqHeader{SeqNo: 1, MethodName: sipgo.OPTIONS})
	req.AppendHeader(t.srv.contactHeader(f))
	return req
}

// routes are the URIs that a request of ours outside a dialog is routed by: the
// outbound proxy, then what the registrar asked for (Service-Route, RFC 3608 §6.1).
func (t *Trunk) routes() (out []string) {
	if t.login == nil {
		return nil
	}
	service := t.login.status().ServiceRoute
	if p := t.cfg.OutboundProxy; p != "" {
		own, err := parseURI(p)
		if first, firstErr := parseURI(strings.Join(service[:min(len(service), 1)], "")); err != nil || firstErr != nil ||
			!strings.EqualFold(own.Host, first.Host) || own.Port != first.Port {
			out = append(out, loose(p))
		}
	}
	return append(out, service...)
}
