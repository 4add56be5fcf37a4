package push

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
)

// acrobitsForm speaks to Acrobits' push mediator (PNM), which holds the
// credentials of all apps made with their SDK (Groundwire, Cloud Softphone and
// white labels). Sources: doc.acrobits.net, "Push Notifications over HTTP"
// (api/server/http_push) and "SIPIS-less push calls" (sdk/pushes/sipisless).
//
// The body is the preset's alone, in no envelope: see acrobitsItems.
type acrobitsForm struct{ layout *layout }

func (f acrobitsForm) body(t Target, m Message) ([]byte, []string, error) {
	return f.layout.build(m, t)
}

// checkToken wants DeviceToken&Selector: base64, and a hash with a suffix.
func (acrobitsForm) checkToken(prid string) error {
	token, selector, both := strings.Cut(prid, "&")
	if !both || token == "" || selector == "" || strings.ContainsFunc(prid, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("the pn-prid is not of the form DeviceToken&Selector that Acrobits apps need: both come from the app's Push Token Reporter")
	}
	return nil
}

// serves: without an AppId the mediator takes nothing.
func (acrobitsForm) serves(param string) bool { return param != "" }

// repeatable: nothing is said of the mediator knowing repetitions.
func (acrobitsForm) repeatable() bool { return false }

const (
	adviceNoPNM   = "that is no answer of Acrobits' push mediator: compare push.webhook.url with https://pnm.cloudsoftphone.com/pnm2/send"
	adviceNoAppID = "the mediator refuses the push: see that the device's pn-param is the AppId that its Push Token Reporter gives for incoming calls"
)

// read takes the mediator's own status, in the JSON of an HTTP 2xx, for the
// answer: 200, 404 where the device is no longer registered there, 400 or 500.
// Its name is status in one edition of the documents and code in others.
func (acrobitsForm) read(a *answer, t Target) webhookReaction {
	if a.status/100 != 2 {
		return webhookReactionTo(a.status)
	}
	var said struct {
		Code     int    `json:"code"`
		Status   int    `json:"status"`
		Response string `json:"response"`
	}
	switch err := json.Unmarshal(a.body, &said); {
	case !a.whole && len(a.body) < maxAnswer:
		return webhookReaction{verdict: Failed, reason: "NoAnswer", uncertain: true, advice: "the answer was cut off: the push may have been accepted and is not sent again"}
	case err != nil, !a.whole:
		return webhookReaction{verdict: Refused, alarm: true, reason: "NoJSON", advice: adviceNoPNM}
	}
	return acrobitsReactionTo(cmp.Or(said.Code, said.Status), quotable(said.Response, t))
}

func acrobitsReactionTo(code int, word string) webhookReaction {
	r := webhookReaction{reason: strconv.Itoa(code), advice: word}
	switch {
	case code == http.StatusOK:
		return webhookReaction{verdict: Sent}
	case code == http.StatusNotFound:
		r.verdict = Gone
	case code == http.StatusTooManyRequests, code >= http.StatusInternalServerError:
		r.verdict, r.retry = Failed, true
	case code == 0:
		return webhookReaction{verdict: Refused, alarm: true, reason: "NoJSON", advice: adviceNoPNM}
	default:
		r.verdict, r.alarm, r.advice = Refused, true, adviceNoAppID
	}
	return r
}
