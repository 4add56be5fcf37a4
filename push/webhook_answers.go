package push

import (
	"encoding/json"
	"net/http"
	"strings"
)

// webhookReaction is what a receiver's answer means and what is done about it.
type webhookReaction struct {
	status    int
	verdict   Verdict
	alarm     bool
	retry     bool
	advice    string // for the administrator
	uncertain bool   // it may have been accepted
	id        string // the receiver's name for the push
	reason    string // the receiver's word for what is wrong
}

const (
	adviceSecret   = "the receiver does not take the signature: compare push.webhook.secret_file with its secret, and the clocks of both machines"
	adviceURL      = "nothing is served there: compare push.webhook.url with the receiver's address"
	adviceRedirect = "redirects are not followed: set push.webhook.url to where the receiver really is"
	adviceTooLarge = "the receiver takes too little: let it accept bodies of 8 kB"
	adviceRefused  = "the receiver refuses the request: its log should say why"
)

// webhookReactions is the table of what a receiver's answers mean. A status
// that is not in it means what its class does.
func webhookReactions() []webhookReaction {
	return []webhookReaction{
		{status: http.StatusUnauthorized, verdict: Refused, alarm: true, advice: adviceSecret},
		{status: http.StatusForbidden, verdict: Refused, alarm: true, advice: adviceSecret},
		{status: http.StatusNotFound, verdict: Refused, alarm: true, advice: adviceURL},
		{status: http.StatusMethodNotAllowed, verdict: Refused, alarm: true, advice: adviceURL},
		{status: http.StatusRequestTimeout, verdict: Failed, retry: true},
		{status: http.StatusGone, verdict: Gone, advice: "the device's push token is dead"},
		{status: http.StatusRequestEntityTooLarge, verdict: Refused, alarm: true, advice: adviceTooLarge},
		{status: http.StatusTooManyRequests, verdict: Failed, retry: true},
	}
}

// webhookReactionTo finds the row, or the class.
func webhookReactionTo(status int) webhookReaction {
	for _, r := range webhookReactions() {
		if r.status == status {
			return r
		}
	}
	switch status / 100 {
	case 1:
		return webhookReaction{status: status, verdict: Refused, alarm: true, advice: adviceURL}
	case 2:
		return webhookReaction{status: status, verdict: Sent}
	case 3:
		return webhookReaction{status: status, verdict: Refused, alarm: true, advice: adviceRedirect}
	case 4:
		return webhookReaction{status: status, verdict: Refused, alarm: true, advice: adviceRefused}
	}
	return webhookReaction{status: status, verdict: Failed, retry: true}
}

// read takes the status for the answer. A JSON body may give a name to the
// push, or to what is wrong.
func (standardForm) read(a *answer, t Target) webhookReaction {
	r := webhookReactionTo(a.status)
	var said struct {
		ID     json.RawMessage `json:"id"`
		Reason json.RawMessage `json:"reason"`
	}
	if a.whole && json.Unmarshal(a.body, &said) == nil {
		r.id, r.reason = quotable(jsonText(said.ID), t), quotable(jsonText(said.Reason), t)
	}
	return r
}

// jsonText is a JSON string's, or what else there is as it stands.
func jsonText(raw json.RawMessage) (s string) {
	if json.Unmarshal(raw, &s) != nil {
		return string(raw)
	}
	return s
}

// echoWindow: as many characters of a token in a row are taken for a quotation
// of it.
const echoWindow = 12

// quotable is a receiver's word, fit for logs; "" when it quotes the token.
func quotable(s string, t Target) string {
	word := printable(s)
	if echoes(word, t.PRID) {
		return ""
	}
	return word
}

// echoes says whether s holds a piece of the secret.
func echoes(s, secret string) bool {
	n := min(echoWindow, len(secret))
	for i := 0; n > 0 && i+n <= len(s); i++ {
		if strings.Contains(secret, s[i:i+n]) {
			return true
		}
	}
	return false
}
