package push

import (
	"io"
	"strings"
	"testing"
)

func TestTokensAreCheckedWithoutBeingTold(t *testing.T) {
	w := newSocketWorld(t)
	for prid, good := range map[string]bool{
		testToken: true, testToken + ":voip&" + testToken + ":remote": true,
		testToken + ":remote": true, testToken + ":fax": false, testToken[1:]: false, "token-of-another-service": false,
	} {
		err := w.sender.CheckToken("APNS", prid)
		if (err == nil) != good {
			t.Errorf("%q: %v", prid, err)
		}
		if err != nil && strings.Contains(err.Error(), prid) {
			t.Errorf("the error tells the token: %v", err)
		}
	}
	if err := w.sender.CheckToken("fcm", "x"); err != nil {
		t.Errorf("a provider that is not configured: %v", err)
	}
	log, err := NewSender(DefaultConfig(), Options{LogTo: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	if err := log.CheckToken("apns", "any"); err != nil {
		t.Errorf("the log provider: %v", err)
	}
}
