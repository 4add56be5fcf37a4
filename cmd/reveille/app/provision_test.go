package app

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/icholy/digest"

	"reveille/sip/location"
)

// An app on another machine provisions itself over plain HTTP: its password
// does not cross the network.
func TestAppProvisionsItselfByDigestAndIsPushed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, testConfig())
		const instance = "urn:uuid:5a9f2f3e-0000-4000-8000-000000000001"
		heard := &eavesdropper{to: &http.Transport{DialContext: w.net.Host("198.51.100.9").DialContext, DisableKeepAlives: true}}
		phone := &digest.Transport{Username: "1001", Password: "secret", Transport: heard}
		body := `{"provider": "apns", "param": "ABCDE12345.com.example.phone.voip", "prid": "00112233445566778899aabbccddeeff"}`
		req, err := http.NewRequestWithContext(t.Context(), "PUT", "http://"+w.app.HTTPAddress()+"/api/v1/extensions/1001/devices/"+instance, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res, err := phone.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(res.Body)
		res.Body.Close()
		id := location.DeviceIDOf(instance)
		if res.StatusCode != 201 || !strings.Contains(string(answer), id) {
			t.Fatalf("%d %s", res.StatusCode, answer)
		}
		if strings.Contains(heard.text, "secret") || !strings.Contains(heard.text, "Digest ") {
			t.Errorf("on the network was %q", heard.text)
		}
		if _, list := w.get("/api/v1/devices"); !strings.Contains(list, id) {
			t.Errorf("devices: %s", list)
		}
		w.invite("to-both")
		w.answer("to-both", 180)
		synctest.Wait()
		if !strings.Contains(w.pushes.String(), "apns ABCDE12345.com.example.phone.voip {") {
			t.Errorf("pushes:\n%s", w.pushes)
		}
		if _, metrics := w.get("/metrics"); !strings.Contains(metrics, `reveille_provisioned_total{outcome="made"} 1`) {
			t.Error("reveille_provisioned_total does not count it")
		}
	})
}

// eavesdropper keeps what a client says of itself.
type eavesdropper struct {
	to   http.RoundTripper
	text string
}

func (e *eavesdropper) RoundTrip(r *http.Request) (*http.Response, error) {
	e.text += r.Header.Get("Authorization") + "\n"
	return e.to.RoundTrip(r)
}
