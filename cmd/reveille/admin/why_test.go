package admin

import (
	"testing"

	"reveille/bridge"
)

func TestWhy(t *testing.T) {
	sent := bridge.PushRecord{Outcome: "sent", Status: 200}
	gone := bridge.PushRecord{Outcome: "gone", Status: 410, Reason: "Unregistered"}
	over := after(20000)
	for want, c := range map[string]bridge.Record{
		"waiting for a device to register; the push service has not answered yet":                              {State: "waking", Timeline: []bridge.Step{{Event: "push"}}},
		"waiting for a device to register; no push was needed":                                                 {State: "waking"},
		"waiting for a device to register; push sent for 2 devices, push gone for 1 device (410 Unregistered)": {State: "waking", Pushes: []bridge.PushRecord{sent, gone, sent}},
		"ringing; waiting for an answer":                                                                       {State: "alerting"},
		"in conversation":                                                                                      {State: "talking", Answer: noon()},
		"no device came (push sent for 1 device)":                                                              {State: "over", End: over, Verdict: "no device came", Pushes: []bridge.PushRecord{sent}},
		"nobody answered (push sent for 1 device; a device rang 1.3 s after the INVITE)":                       {State: "over", End: over, Verdict: "nobody answered", Pushes: []bridge.PushRecord{sent}, WakeMS: 900, RingMS: 1300},
		"cancelled (push sent for 1 device; a device registered 0.9 s after its push but did not ring)":        {State: "over", End: over, Verdict: "cancelled", Pushes: []bridge.PushRecord{sent}, WakeMS: 900},
		"no extension has the number":                                                                          {State: "over", End: over, Verdict: "no extension has the number"},
		"answered; the caller hung up":                                                                         {State: "over", End: over, Answer: noon(), Verdict: "answered; the caller hung up", Pushes: []bridge.PushRecord{sent}},
	} {
		if got := Why(c); got != want {
			t.Errorf("%+v\n gives %q\n want  %q", c, got, want)
		}
	}
}
