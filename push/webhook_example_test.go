package push

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Verify says whether a request was signed with the key.
func Verify(key []byte, h http.Header, body []byte, now time.Time) bool {
	id, stamp := h.Get("Webhook-Id"), h.Get("Webhook-Timestamp")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		return false
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + stamp + "." + string(body)))
	mine := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	for _, theirs := range strings.Fields(h.Get("Webhook-Signature")) {
		if hmac.Equal([]byte(mine), []byte(theirs)) {
			return true
		}
	}
	return false
}

// TestWebhookExample: the documented check takes what we sign, with one secret
// or two, and nothing that was changed, is old or was signed by another.
func TestWebhookExample(t *testing.T) {
	old, fresh := []byte("an old secret of 24 bytes"), []byte("a fresh secret of 24 bytes")
	now, body := time.Unix(1_700_000_000, 0), []byte(`{"type":"call.wake"}`)
	h := http.Header{}
	(&signer{[][]byte{old, fresh}}).sign(h, "wake_1", now, body)
	for name, good := range map[string]bool{
		"old key":   Verify(old, h, body, now),
		"fresh key": Verify(fresh, h, body, now.Add(5*time.Minute)),
	} {
		if !good {
			t.Errorf("%s: not taken", name)
		}
	}
	other := h.Clone()
	other.Set("Webhook-Id", "wake_2")
	for name, bad := range map[string]bool{
		"another key":  Verify([]byte("some other key of 24 bytes"), h, body, now),
		"another body": Verify(old, h, []byte(`{}`), now),
		"another id":   Verify(old, other, body, now),
		"too old":      Verify(old, h, body, now.Add(6*time.Minute)),
		"from ahead":   Verify(old, h, body, now.Add(-6*time.Minute)),
		"no headers":   Verify(old, http.Header{}, body, now),
	} {
		if bad {
			t.Errorf("%s: taken", name)
		}
	}
}
