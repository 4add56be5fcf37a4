package admin

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"reveille/sip/location"
)

const (
	alertToken = "ffeeddccbbaa99887766554433221100"
	publicKey  = "BwEHAgcDBwQHBQcGBwcHCAcJBwoHCwcMBw0HDgcPBxA"
)

// deviceOf is a device as the API shows it, and the text that it was read from.
func (a *api) deviceOf(extension, id string) (Device, string) {
	a.t.Helper()
	_, text := a.do("GET", "/api/v1/devices?extension="+extension, "Authorization", "Bearer "+token)
	var list DeviceList
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		a.t.Fatal(err)
	}
	for _, d := range list.Devices {
		if d.ID == id {
			return d, text
		}
	}
	a.t.Fatalf("no device %s in %s", id, text)
	return Device{}, ""
}

// What tokens a device has is shown, the tokens are not; nor is its key.
func TestDeviceShowsWhatItCanBePushedBy(t *testing.T) {
	a := serve(t, withToken)
	id := location.DeviceIDOf(urn)
	for prid, want := range map[string]string{
		pushToken:           "[voip] true",
		pushToken + ":voip": "[voip] true",
		alertToken + ":remote&" + pushToken + ":voip": "[voip alert] true",
		alertToken + ":remote":                        "[alert] true",
	} {
		body := strings.Replace(aPhone, pushToken+`"`, prid+`", "key": "`+publicKey+`"`, 1)
		res, answer := a.send(bearer(token), "PUT", "1001/devices/"+urn, body)
		d, text := a.deviceOf("1001", id)
		if res.StatusCode/100 != 2 || fmt.Sprint(d.Push.Kinds, d.Push.Key) != want {
			t.Errorf("%d, %+v, want %s", res.StatusCode, d.Push, want)
		}
		for _, secret := range []string{pushToken, alertToken, publicKey} {
			if strings.Contains(text+answer, secret) {
				t.Errorf("%s shows", secret)
			}
		}
	}
	a.send(bearer(token), "PUT", "1001/devices/"+urn, aPhone)
	if d, _ := a.deviceOf("1001", id); d.Push.Key || d.LastPush != nil {
		t.Errorf("a target without a key, never pushed: %+v %+v", d.Push, d.LastPush)
	}
}

func TestDeviceShowsItsLastPush(t *testing.T) {
	a := serve(t, withToken)
	d := a.loc.Devices("1001")[0]
	a.loc.Pushed(d, location.LastPush{At: time.Now(), Outcome: "gone", Reason: "Unregistered"})
	a.loc.Woke("1001", d.ID, 930*time.Millisecond)
	shown, text := a.deviceOf("1001", d.ID)
	if p := shown.LastPush; p == nil || p.Outcome != "gone" || p.Reason != "Unregistered" {
		t.Errorf("the last push is %+v", p)
	}
	if len(shown.WakeMS) != 1 || shown.WakeMS[0] != 930 {
		t.Errorf("its wakes are %v", shown.WakeMS)
	}
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	desc := readDescription(t)
	for _, wrong := range desc.check("answer", desc.schemaOf(t, "/api/v1/devices", "get", "200"), v) {
		t.Error(wrong)
	}
}

// A push service of one's own may need no param.
func TestProvisioningWithoutParam(t *testing.T) {
	a := serve(t, withToken)
	for i, body := range []string{`{"provider": "MyPush", "prid": "a:b-C_d"}`, `{"provider": "mypush", "param": "", "prid": "a:b-C_d"}`} {
		if res, text := a.send(bearer(token), "PUT", "1001/devices/"+urn, body); res.StatusCode != []int{201, 200}[i] {
			t.Errorf("%d %s", res.StatusCode, text)
		}
	}
	if d, _ := a.deviceOf("1001", location.DeviceIDOf(urn)); d.Push.Provider != "mypush" || d.Push.Kinds != nil {
		t.Errorf("%+v", d.Push)
	}
	res, text := a.send(bearer(token), "PUT", "1001/devices/"+urn, `{"provider": "apns", "prid": "`+pushToken+`"}`)
	a.wantProblem(res, text, 422, "not configured")
}

// Backends, apps and REGISTERs want one token at the same time: nobody gets an
// answer that is not one of these, and in the end it is one device's.
func TestPUTsAndREGISTERsAtTheSameTime(t *testing.T) {
	a := serve(t, withToken)
	target := location.Target{Provider: "apns", Param: topic, PRID: pushToken}
	var wg sync.WaitGroup
	for n := range 4 {
		extension := []string{"1001", "1002"}[n%2]
		wg.Go(func() {
			for range 20 {
				if res, body := a.send(bearer(token), "PUT", extension+"/devices/"+urn, aPhone); res.StatusCode/100 != 2 {
					t.Errorf("PUT: %d %s", res.StatusCode, body)
				}
			}
		})
		wg.Go(func() {
			for i := range 20 {
				c, err := a.loc.Put(t.Context(), location.Update{AOR: extension, CallID: fmt.Sprint(n), CSeq: uint32(i + 1), FlowID: fmt.Sprint("tcp/", n),
					Transport: "TCP", Contacts: []location.Contact{{URI: "sip:x@y", Instance: "urn:uuid:" + fmt.Sprint(n), Expires: time.Hour, Target: target}}})
				if err != nil {
					t.Error(err)
					continue
				}
				c.Publish()
			}
		})
		wg.Go(func() {
			for range 20 {
				if res, body := a.send(bearer(token), "DELETE", extension+"/devices/"+urn, ""); res.StatusCode != 204 {
					t.Errorf("DELETE: %d %s", res.StatusCode, body)
				}
			}
		})
	}
	wg.Wait()
	a.send(bearer(token), "PUT", "1002/devices/"+urn, aPhone)
	owners := 0
	for _, d := range a.loc.AllDevices() {
		if d.Target.PRID == pushToken {
			owners++
		}
	}
	if owners != 1 || a.targetOf("1002", location.DeviceIDOf(urn)) != pushToken {
		t.Errorf("the token has %d owners: %v", owners, a.loc.AllDevices())
	}
}
