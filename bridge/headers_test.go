package bridge_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"reveille/bridge"
	"reveille/sip/siptest"
)

// TestListedHeadersReachThePush: an app is told of the headers that it lists,
// cleaned and cut, and of no other; the device's INVITE has none of them.
func TestListedHeadersReachThePush(t *testing.T) {
	const hidden = "canary"
	sent := header("x-customer: 4711", "X-CUSTOMER: 4712", "X-Queue: Sales\u202e \u200b Ada\t(North)", "X-Long: "+strings.Repeat("é", 2000),
		"X-Other: "+hidden, "X-Empty: ", "User-to-User: 56a390f3;encoding=hex", "Proxy-Authorization: Digest username="+hidden,
		"k: 100rel", "s: a subject")
	for i := range 40 {
		sent = append(sent, siptest.Field{Name: fmt.Sprintf("X-Odd-%d", i), Value: hidden})
	}
	listed := []string{"X-Customer", "X-Queue", "X-Long", "X-Empty", "X-None", "User-to-User", "Subject"}
	callWith(t, func(s *setup) { s.payload.Headers = listed }, siptest.Invitation{From: "+4940111", Header: sent},
		func(w *world, invite *siptest.Message, payload map[string]any, r bridge.Record) {
			want := map[string]any{"X-Customer": "4711, 4712", "X-Queue": "Sales Ada (North)", "X-Long": strings.Repeat("é", 256),
				"X-Empty": "", "User-to-User": "56a390f3;encoding=hex", "Subject": "a subject"}
			if got := payload["headers"]; !reflect.DeepEqual(got, any(want)) {
				t.Errorf("headers are %v, want %v", got, want)
			}
			if strings.Contains(fmt.Sprint(payload), hidden) {
				t.Errorf("something that is not listed is in the push: %v", payload)
			}
			for _, h := range invite.Header {
				if !slices.Contains(deviceHeaders, h.Name) {
					t.Errorf("%s: %s reached the device", h.Name, h.Value)
				}
			}
		})
}

// TestTemplateReachesThePush: a field of the administrator's own, with what
// only the trunk's INVITE says.
func TestTemplateReachesThePush(t *testing.T) {
	callWith(t, func(s *setup) {
		s.payload.Headers = []string{"X-Customer"}
		s.payload.Template = map[string]string{"call.id": "{{.UUID}}", "line": `{{.To}}/{{.Header "x-customer"}}`, "video": "{{json .HasVideo}}"}
	}, siptest.Invitation{From: "+4940111", Header: header("X-Customer: 4711")}, func(w *world, invite *siptest.Message, payload map[string]any, r bridge.Record) {
		equal(t, "call", fmt.Sprint(payload["call"]), "map[id:"+invite.Get("X-Call-UUID")+"]")
		equal(t, "call_id", payload["call_id"], any(invite.Get("Call-ID")))
		equal(t, "handle", payload["handle"], any("+4940111"))
		equal(t, "line", payload["line"], any(r.To+"/4711"))
		equal(t, "video", payload["video"], any(false))
	})
}
