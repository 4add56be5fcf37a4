package sip

import (
	"context"
	"strconv"
	"strings"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

// Session timers (RFC 4028), for each leg by itself: whoever is the refresher
// says from time to time that the session goes on; when nobody does it ends.
// Towards trunks we take both roles and prefer the other. A device is asked by
// OPTIONS instead, unless it asks for a session timer itself.

// minSessionExpires is the shortest session interval, in seconds: the least
// that the RFC allows (§5), and what our Min-SE says.
const minSessionExpires = 90

// probeInterval is how often a device in a call is asked for a sign of life:
// within the 60 s after which a NAT forgets a UDP binding.
const probeInterval = 30 * time.Second

// sessionRequest is what a message says of the session's lifetime, and whether
// its sender takes UPDATE to refresh it.
type sessionRequest struct {
	expires, minSE uint32 // seconds; 0: no such header
	refresher      refresher
	timer          bool // Supported: timer
	allow          bool // there is an Allow header
	updates        bool // with UPDATE in it
}

// refresher is that parameter of Session-Expires. It speaks of the transaction
// that it stands in: a UAC may be either end of the dialog.
type refresher uint8

const (
	refresherUnsaid refresher = iota
	refresherUAC
	refresherUAS
)

// sessionOf reads the headers of a request or response. What cannot be read
// counts as absent: no call should fail for it.
func sessionOf(m sipgo.Message) sessionRequest {
	q := sessionRequest{timer: hasToken(m, "Supported", "timer") || hasToken(m, "Require", "timer"),
		allow: headerValue(m, "Allow") != "", updates: hasToken(m, "Allow", string(sipgo.UPDATE))}
	q.expires, q.refresher = parseSessionExpires(headerValue(m, "Session-Expires"))
	q.minSE, _ = parseSessionExpires(headerValue(m, "Min-SE"))
	return q
}

// parseSessionExpires reads "1800;refresher=uac"; Min-SE is the same without
// the refresher (RFC 4028 §4, §5).
func parseSessionExpires(value string) (expires uint32, by refresher) {
	pieces, ok := splitOutside(value, ';')
	n, err := strconv.ParseUint(strings.TrimSpace(pieces[0]), 10, 31)
	if !ok || err != nil {
		return 0, refresherUnsaid
	}
	params, err := parseParams(pieces[1:])
	if err != nil {
		return uint32(n), refresherUnsaid
	}
	switch who, _ := paramOf(params, "refresher"); strings.ToLower(who) {
	case "uac":
		by = refresherUAC
	case "uas":
		by = refresherUAS
	}
	return uint32(n), by
}

// tooBrief asks for 422. A sender that does not know the extension must not
// get that: a proxy has put the header in (RFC 4028 §9).
func (q sessionRequest) tooBrief() bool {
	return q.timer && q.expires > 0 && q.expires < minSessionExpires
}

// session is the timer of one leg; the zero value is none.
type session struct {
	interval time.Duration
	minSE    uint32    // the longest that the far end has asked for, in seconds
	ours     bool      // we refresh
	next     time.Time // when we do so
	expires  time.Time // when the leg is given up
}

// grantSession answers what a request asks of the session's lifetime, in its
// 2xx (RFC 4028 §9). The caller holds l.mu.
func (l *leg) grantSession(q sessionRequest, res *sipgo.Response) {
	m := l.inCall()
	if q.allow {
		m.updates = q.updates
	}
	if headerValue(res, "Supported") == "" {
		addSupported(res)
	}
	if q.expires == 0 && q.timer && m.session.interval > 0 {
		q.expires = uint32(m.session.interval / time.Second) // it goes on
	}
	if q.expires < minSessionExpires {
		l.runSession(0, false)
		return
	}
	// The request's sender refreshes, where it can and has not asked us to.
	ours, who := !q.timer || q.refresher == refresherUAS, ";refresher=uac"
	if ours {
		who = ";refresher=uas"
	}
	res.AppendHeader(sipgo.NewHeader("Session-Expires", strconv.FormatUint(uint64(q.expires), 10)+who))
	if q.timer {
		res.AppendHeader(sipgo.NewHeader("Require", "timer"))
	}
	m.session.minSE = max(m.session.minSE, q.minSE)
	l.runSession(time.Duration(q.expires)*time.Second, ours)
}

// askSession puts the lifetime that holds into a request of ours (RFC 4028
// §7.1, §7.4). The caller holds l.mu.
func (l *leg) askSession(req *sipgo.Request) {
	s := &l.mid.session
	if l.trunk == nil && s.interval == 0 {
		return
	}
	req.AppendHeader(sipgo.NewHeader("Supported", "timer"))
	if s.interval > 0 {
		who := ";refresher=uas"
		if s.ours {
			who = ";refresher=uac"
		}
		req.AppendHeader(sipgo.NewHeader("Session-Expires", seconds(int(s.interval/time.Second))+who))
		req.AppendHeader(sipgo.NewHeader("Min-SE", seconds(int(max(s.minSE, minSessionExpires)))))
	}
}

// takeSession takes the lifetime that a 2xx to a request of ours grants; none,
// where it says nothing (RFC 4028 §7.2). The caller holds l.mu.
func (l *leg) takeSession(res *sipgo.Response) {
	q := sessionOf(res)
	if q.allow {
		l.mid.updates = q.updates
	}
	l.runSession(time.Duration(q.expires)*time.Second, q.refresher != refresherUAS)
}

// lengthenSession takes a 422 to a refresh of ours; false if there is nothing
// to lengthen.
func (l *leg) lengthenSession(q sessionRequest) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.mid.session
	if s.interval == 0 || time.Duration(q.minSE)*time.Second <= s.interval {
		return false
	}
	s.minSE, s.interval = max(s.minSE, q.minSE), time.Duration(q.minSE)*time.Second
	return true
}

// runSession starts the interval anew; 0 ends the timer. The caller holds l.mu.
func (l *leg) runSession(interval time.Duration, ours bool) {
	s := &l.mid.session
	now := time.Now()
	s.interval, s.ours = interval, ours
	// RFC 4028 §10: half of it is when to refresh, and the BYE goes a little
	// before the end, so that it still finds the proxies' state.
	s.next, s.expires = now.Add(interval/2), now.Add(interval-min(32*time.Second, interval/3))
	l.rearm()
}

// beginSession is for the first 2xx of ours. The caller holds l.mu.
func (l *leg) beginSession(q sessionRequest, res *sipgo.Response) {
	m := l.inCall()
	m.sdp, m.called = res.Body(), true
	l.grantSession(q, res)
}

// confirmSession is for the 2xx to our INVITE. The caller holds l.mu.
func (l *leg) confirmSession(offer []byte, res *sipgo.Response) {
	m := l.inCall()
	m.sdp, m.probeAt = offer, time.Now().Add(probeInterval)
	l.takeSession(res)
}

// rearm sets the leg's one timer to what is due first. The caller holds l.mu.
func (l *leg) rearm() {
	m := l.mid
	due := m.probeAt
	sooner := func(t time.Time) {
		if due.IsZero() || t.Before(due) {
			due = t
		}
	}
	if m.session.interval > 0 {
		if m.session.ours {
			sooner(m.session.next)
		}
		sooner(m.session.expires)
	}
	switch wait := time.Until(due); {
	case l.over || due.IsZero():
		m.stop()
	case m.timer == nil:
		m.timer = time.AfterFunc(wait, l.tick)
	default:
		m.timer.Reset(wait)
	}
}

func (m *midcall) stop() {
	if m.timer != nil {
		m.timer.Stop()
	}
}

// tick does what is due.
func (l *leg) tick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	m, now := l.mid, time.Now()
	s := &m.session
	switch {
	case l.over:
		return
	case s.interval > 0 && !now.Before(s.expires):
		l.log.Warn("the session was not refreshed in time; hanging up", "call_id", l.id.callID, "interval", s.interval)
		bye := l.prepareBye(Reason{Protocol: "SIP", Cause: 408, Text: "Session expired"})
		l.finish(End{Kind: EndExpired})
		l.sendLater(bye)
		return
	case s.interval > 0 && s.ours && !now.Before(s.next):
		// Should this try fail, the next follows after half of what is left.
		s.next = now.Add(max(s.expires.Sub(now)/2, time.Second))
		if m.own == nil {
			l.srv.work.Go(l.refresh)
		}
	}
	if !m.probeAt.IsZero() && !now.Before(m.probeAt) {
		m.probeAt = now.Add(probeInterval)
		l.requestLater(l.newRequest(sipgo.OPTIONS), l.probed)
	}
	l.rearm()
}

// probed takes the answer to OPTIONS. Only 481 says that the dialog has gone
// (RFC 3261 §11.2, §12.2.1.2); silence may be a flow that is being replaced.
func (l *leg) probed(res *sipgo.Response, err error) {
	if err == nil && res.StatusCode == 481 {
		l.lost(481)
	}
}

// refresh says that the session goes on (RFC 4028 §10): by UPDATE without SDP
// where the far end takes that, else by a re-INVITE with the same SDP.
func (l *leg) refresh() {
	answer, err := l.Propose(context.Background(), Proposal{Update: true, refresh: true, SDP: func() ([]byte, error) { return nil, nil }})
	if r, ok := err.(*Refused); ok && (r.Code == 405 || r.Code == 501) {
		l.mu.Lock() // it is there, and cannot be asked: no reason to end the call
		defer l.mu.Unlock()
		l.runSession(0, false)
		return
	}
	if err != nil {
		l.log.Info("the session could not be refreshed", "call_id", l.id.callID, "err", err)
		return
	}
	if answer != nil {
		l.settled(answer)
	}
}

// settled hands on what the far end answered to a request that the call did not
// make: its audio may have moved.
func (l *leg) settled(answer []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.mid.changes <- &Change{SDP: answer, Settled: true}:
	default: // a request of the far end's, newer than this answer, is there already
	}
}
