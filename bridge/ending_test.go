package bridge

import (
	"testing"

	"reveille/sip"
)

func TestEndingFixesTheAnswer(t *testing.T) {
	for _, c := range []struct {
		ending   *Ending
		fallback string
		code     int
		contact  string
		reason   string
	}{
		{EndPushGone, "", 480, "", `Q.850;cause=20;text="Subscriber absent"`},
		{EndPushGone, "486", 486, "", `Q.850;cause=20;text="Subscriber absent"`},
		{EndPushRefused, "", 480, "", `Q.850;cause=38;text="Push refused"`},
		{EndPushFailed, "", 480, "", `Q.850;cause=41;text="Push failed"`},
		{EndNoAnswer, "sip:voicemail@pbx.example.com", 302, "sip:voicemail@pbx.example.com", `Q.850;cause=19;text="No answer"`},
		{EndDeclined, "sip:voicemail@pbx.example.com", 603, "", `Q.850;cause=21;text="Call rejected"`},
		{EndCancelled, "480", 487, "", ""},
		{EndUnknownNumber, "", 404, "", `Q.850;cause=1;text="Unallocated number"`},
	} {
		r := c.ending.refusal(c.fallback)
		if r.Code != c.code || r.Contact != c.contact || r.Reason.String() != c.reason {
			t.Errorf("%s with fallback %q: %d %q %q, want %d %q %q", c.ending.Name, c.fallback, r.Code, r.Contact, r.Reason, c.code, c.contact, c.reason)
		}
	}
}

func TestEndingPassesReasonsOn(t *testing.T) {
	given := sip.Reason{Protocol: "Q.850", Cause: 16, Text: "Normal call clearing"}
	e := EndCallerHungUp.with(sip.Reason{}, given)
	if e.Device != given || e.Trunk != EndCallerHungUp.Trunk {
		t.Errorf("got trunk %v, device %v", e.Trunk, e.Device)
	}
	if EndCallerHungUp.Device == given {
		t.Error("with changed the vocabulary itself")
	}
}
