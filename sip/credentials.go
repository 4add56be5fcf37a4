package sip

import sipgo "github.com/emiago/sipgo/sip"

// credentials are what a leg answers the challenges of its peer with: those of
// the extension whose registration the call came to, else the trunk's. nil: none.
func (l *leg) credentials() *digestClient {
	switch {
	case l.account != nil:
		return l.account
	case l.trunk != nil && l.trunk.cfg.Username != "":
		return l.trunk.client
	}
	return nil
}

// canLogin takes a challenge; false if it cannot be answered.
func (l *leg) canLogin(challenge *sipgo.Response) bool {
	login := l.credentials()
	if login == nil {
		return false
	}
	_, err := login.challenged(challenge)
	return err == nil
}
