package pushtest

import (
	"encoding/json"
	"time"
)

// Answer is one scripted answer. The zero value judges the request as usual,
// which is of use with Delay.
type Answer struct {
	Status     int       // HTTP status; 2xx accepts the push whatever it holds
	Reason     string    // the provider's word for it, in the JSON body
	Timestamp  time.Time // in Apple's JSON body, for 410
	Field      string    // in Google's JSON body: the field that is at fault
	Message    string    // in Google's JSON body: what a person reads
	Code       int       // in Acrobits' JSON body: its own status, under HTTP 200
	Body       string    // sent instead of the JSON; of any form and size
	RetryAfter string    // header Retry-After
	Delay      time.Duration
	Do         Misdeed // instead of, or beside, the answer
}

// Misdeed is what a service does that does not simply answer.
type Misdeed int

// The misdeeds. Only those that say so accept the push.
const (
	Nothing     Misdeed = iota
	Stall               // never answers; the connection stays
	GoAway              // GOAWAY that says the request was not processed, then closes
	Refuse              // RST_STREAM with REFUSED_STREAM
	CutOff              // closes the connection without an answer
	CutOffAfter         // accepts the push, then closes the connection without an answer
	HalfAnswer          // accepts the push, sends the answer's head and closes before its end
	Reset               // as CutOff, by a TCP RST
)

// Reject is a provider's answer with its reason.
func Reject(status int, reason string) Answer { return Answer{Status: status, Reason: reason} }

// took says whether the service accepts the push that it answers so.
func (a Answer) took() bool {
	return a.Do == CutOffAfter || a.Do == HalfAnswer || (a.Do == Nothing && a.Status/100 == 2 && a.Code/100 <= 2)
}

func encode(v any) []byte {
	out, err := json.Marshal(v)
	if err != nil { // strings and integers always encode
		return []byte(err.Error())
	}
	return out
}
