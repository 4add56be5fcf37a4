package bridge

import (
	"context"
	"errors"

	"reveille/rtp"
	"reveille/sip"
)

// renegotiate answers a re-INVITE or UPDATE locally (hold, resume, a new address): the
// other leg stays as it is, because the audio stays anchored here.
func (c *Call) renegotiate(ctx context.Context, side rtp.Side, r *sip.Change) {
	sdp, err := c.session.Reoffer(side, r.SDP)
	if err != nil {
		c.log().Info("re-INVITE refused", "leg", side.String(), "err", err)
		code := 488
		if errors.Is(err, rtp.ErrBadSDP) {
			code = 400
		}
		r.Refuse(&sip.Refused{Code: code})
		return
	}
	c.rec.step("re-INVITE", "", side.String())
	if err := r.Accept(sdp); err != nil || r.SDP != nil {
		return
	}
	go func() { // an offerless re-INVITE: its ACK holds the answer
		select {
		case sdp := <-r.Acked():
			if err := c.session.ReofferAnswer(side, sdp); err != nil {
				c.log().Info("the answer in the ACK cannot be used", "leg", side.String(), "err", err)
			}
		case <-ctx.Done():
		}
	}()
}
