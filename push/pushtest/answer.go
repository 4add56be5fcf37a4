package pushtest

import (
	"encoding/json"
	"time"
)

// Answer is one scripted answer. The zero value judges the request as usual,
// which is of use with Delay.
type Answer struct {
	Status     int       // HTTP status; 200 accepts the push whatever it holds
	Reason     string    // Apple's word for it, in the JSON body
	Timestamp  time.Time // in the JSON body, for 410
	Body       string    // sent instead of the JSON
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
)

// Reject is Apple's answer with a reason.
func Reject(status int, reason string) Answer { return Answer{Status: status, Reason: reason} }

// body renders the answer as Apple does; nil for 200.
func (a Answer) body() []byte {
	if a.Body != "" {
		return []byte(a.Body)
	}
	if a.Reason == "" {
		return nil
	}
	answer := struct {
		Reason    string `json:"reason"`
		Timestamp int64  `json:"timestamp,omitempty"`
	}{Reason: a.Reason}
	if !a.Timestamp.IsZero() {
		answer.Timestamp = a.Timestamp.UnixMilli()
	}
	out, err := json.Marshal(answer)
	if err != nil { // strings and integers always encode
		return []byte(err.Error())
	}
	return out
}
