package main

import (
	"bytes"
	"io"
	"testing"
	"time"

	"reveille/bridge"
	"reveille/cmd/reveille/admin"
	"reveille/sip"
)

func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func after(d time.Duration) time.Time { return noon().Add(d) }

// asleepCall is a call that no device came for; the caller's name tries to
// steer the terminal.
func asleepCall() bridge.Record {
	step := func(ms float64, event, device, detail string) bridge.Step {
		return bridge.Step{At: after(time.Duration(ms * float64(time.Millisecond))), Millis: ms, Event: event, Device: device, Detail: detail}
	}
	return bridge.Record{
		Call: "11111111-0000-4000-8000-000000000001", Trunk: "carrier", State: "over", From: "+49301", FromName: "Eve\x1b[2J", To: "+49302", Extension: "1001",
		Start: noon(), End: after(20 * time.Second), Ending: "no_wake", Code: 480, Verdict: "a push was accepted, but no device registered in time",
		Pushes: []bridge.PushRecord{{Device: "63f59d27b5562a37a3f3", Provider: "apns", Outcome: "sent", Status: 200, Millis: 79}},
		Timeline: []bridge.Step{
			step(0, "INVITE", "", "abc@carrier"), step(0.4, "180", "", ""), step(0.5, "push", "63f59d27b5562a37a3f3", "apns"),
			step(79.5, "push sent", "63f59d27b5562a37a3f3", ""), step(20079.6, "over", "", "no_wake"),
		},
	}
}

func talkingCall() bridge.Record {
	return bridge.Record{
		Call: "22222222-0000-4000-8000-000000000002", Trunk: "carrier", State: "talking", From: "", To: "1001", Extension: "1001", Device: "63f59d27b5562a37a3f3",
		Start: noon(), Answer: after(4 * time.Second), WakeMS: 900, RingMS: 1100,
		Media: map[string]bridge.MediaRecord{"trunk": {Packets: 250, Lost: 1, JitterMS: 0.4}, "device": {Packets: 249}},
	}
}

func TestTables(t *testing.T) {
	now := after(3*time.Hour + 5*time.Minute)
	detail := func(r bridge.Record) admin.CallDetail { return admin.CallDetail{Record: r, Why: admin.Why(r)} }
	list := func(records ...bridge.Record) admin.CallList {
		var l admin.CallList
		for _, r := range records {
			l.Calls = append(l.Calls, admin.CallSummary{Record: r, Why: admin.Why(r)})
		}
		return l
	}
	for name, show := range map[string]func(io.Writer){
		"calls.txt":    func(w io.Writer) { showCalls(w, list(talkingCall(), asleepCall()), now) },
		"no_calls.txt": func(w io.Writer) { showCalls(w, list(), now) },
		"call.txt":     func(w io.Writer) { showCall(w, detail(asleepCall()), time.UTC) },
		"talking.txt":  func(w io.Writer) { showCall(w, detail(talkingCall()), time.UTC) },
		"status.txt": func(w io.Writer) {
			showStatus(w, admin.Status{Version: "v1", Node: "node-a", Phase: admin.Running, Started: noon(), SIP: []string{"udp://0.0.0.0:5060"}, Push: []string{"apns"},
				Calls: map[string]int{"talking": 1, "waking": 2}, Trunks: admin.TrunkCounts{Up: 1, Down: []string{"carrier"}}, Devices: map[string]int{"apns": 4}, Banned: 2,
				Engines: []admin.Engine{{URL: "udp://10.0.0.11:2223", Up: true, Calls: 1, Since: noon(), Drain: true},
					{URL: "udp://10.0.0.12:2223", Since: now.Add(-4 * time.Second), Cause: "does not answer: no answer to 4 requests"}}}, now)
		},
		"trunks.txt": func(w io.Writer) {
			showTrunks(w, admin.TrunkList{Trunks: []admin.Trunk{
				{TrunkState: sip.TrunkState{Name: "carrier", State: "failed", Since: noon(), Server: "sip:carrier.example", NextTry: now.Add(90 * time.Second), LastCode: 403, LastError: "403 Forbidden"}},
				{TrunkState: sip.TrunkState{Name: "pbx", Up: true, State: "reachable", Since: noon(), Server: "192.0.2.10", Target: "udp://192.0.2.10:5060", LastCode: 200}, Calls: 3},
				{TrunkState: sip.TrunkState{Name: "office", Up: true, State: "reachable", Since: noon(), Server: "sip:pbx.example", Upstreams: &sip.UpstreamCounts{Registered: 990, Registering: 7, Failed: 3}}},
			}}, now)
		},
		"devices.txt": func(w io.Writer) {
			push := &admin.Target{Provider: "apns", Param: "TEAM.app.voip", Environment: "sandbox", Kinds: []string{"voip", "alert"}, Key: true}
			fcm := &admin.Target{Provider: "fcm", Param: "example-phone"}
			showDevices(w, admin.DeviceList{Devices: []admin.Device{
				{ID: "63f59d27b5562a37a3f3", Extension: "1001", UserAgent: "App/1\x07", Seen: now.Add(-time.Minute), Push: push,
					Bindings: []admin.Binding{{Transport: "TLS", Remote: "198.51.100.7:40000", Expires: now.Add(time.Hour)}}},
				{ID: "d2", Extension: "1002", Seen: noon(), Push: push, WakeMS: []float64{930, 4020, 870}, LastPush: &admin.LastPush{At: now.Add(-3 * time.Minute), Outcome: "sent"}},
				{ID: "d4", Extension: "1002", Seen: noon(), Push: fcm, WakeMS: []float64{1260}, LastPush: &admin.LastPush{At: now.Add(-3 * time.Minute), Outcome: "gone", Reason: "UNREGISTERED"}},
				{ID: "d3", Extension: "1003", Seen: now.Add(-100 * time.Hour)},
			}}, now)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			show(&out)
			if bytes.ContainsAny(out.Bytes(), "\x1b\x07") {
				t.Error("control characters reach the terminal")
			}
			golden(t, name, out.String())
		})
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 4 * time.Second: "4s", 125 * time.Second: "2m05s", 3*time.Hour + 5*time.Minute: "3h05m", 49 * time.Hour: "2d",
	} {
		if got := age(noon(), after(d)); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
	if got := age(time.Time{}, noon()); got != "" {
		t.Errorf("no time is %q", got)
	}
}
