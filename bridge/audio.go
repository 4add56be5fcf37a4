package bridge

import (
	"context"
	"errors"
	"log/slog"

	"reveille/rtp"
)

// openAudio takes the call's media ports and reads the trunk's offer before any
// device is woken: a phone must not ring for a call that cannot be. For early
// media it answers: the SDP of the 180 is then the answer, and the 200 repeats
// it (RFC 3261 §13.2.1). nil: all is well.
func (c *Call) openAudio() *Ending {
	if err := c.openSession(); err != nil {
		return c.mediaEnding(err)
	}
	if c.in.Offer() == nil || !*c.in.Trunk().Config().EarlyMedia {
		return nil
	}
	sdp, err := c.session.Answer(rtp.Trunk)
	if err != nil {
		return c.mediaEnding(err)
	}
	c.early = sdp
	return nil
}

func (c *Call) openSession() error {
	trunk := c.in.Trunk().Config()
	s, err := c.bridge.relay.Open(rtp.SessionOptions{ID: c.id, TrunkAddress: c.in.LocalAddress(), TrunkSRTP: c.srtp(),
		Sound: rtp.Sound{Ringback: trunk.Ringback, Tone: trunk.Tone}})
	if err != nil {
		return err
	}
	c.session = s
	c.rec.hears(s)
	if c.in.Trunk().Config().RTPStat {
		c.in.ReportSound(c.soundForTrunk(s))
	}
	s.Secret(rtp.Trunk, c.in.Secret())
	s.SignalledFrom(rtp.Trunk, c.in.PeerAddress())
	if c.in.TakesInfo() {
		s.TakesInfo(rtp.Trunk)
	}
	if offer := c.in.Offer(); offer != nil {
		return s.SetOffer(rtp.Trunk, offer)
	}
	return s.MayOffer(rtp.Trunk)
}

func (c *Call) mediaEnding(err error) *Ending {
	level := slog.LevelInfo
	if errors.Is(err, rtp.ErrNoSockets) { // no fault of this call: the next ones will fare no better
		level = slog.LevelError
	}
	c.log().Log(context.Background(), level, "the audio cannot be set up", "err", err)
	c.rec.step("audio refused", "", err.Error())
	switch {
	case errors.Is(err, rtp.ErrNoPorts):
		return EndNoPorts
	case errors.Is(err, rtp.ErrNoSockets):
		return EndNoSockets
	case errors.Is(err, rtp.ErrNoEngine):
		return EndNoEngine
	case errors.Is(err, rtp.ErrNotAcceptable):
		return EndNoCodec
	}
	return EndBadOffer
}

func (c *Call) ourSDP(offerless bool) ([]byte, error) {
	if offerless {
		return c.session.Offer(rtp.Trunk)
	}
	return c.session.Answer(rtp.Trunk)
}
