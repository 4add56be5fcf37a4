package push

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"reveille/push/pushtest"
)

// TestFCMLifeOfAnAccessToken: whatever life the endpoint gives a token, it is
// asked again in time, and not all the time.
func TestFCMLifeOfAnAccessToken(t *testing.T) {
	for life, want := range map[string][2]int{ // in two hours
		"3599":                {3, 3},
		"4294967295":          {1, 1},
		"9223372036":          {1, 1},
		"9223372036854775807": {1, 90},
		"0":                   {30, 34},
		"-3600":               {30, 34},
	} {
		t.Run(life, func(t *testing.T) {
			answer := pushtest.Answer{Status: 200, Body: fmt.Sprintf(`{"access_token":"ya29.x","token_type":"Bearer","expires_in":%s}`, life)}
			synctest.Test(t, func(t *testing.T) {
				w := newFCMPipeWorld(t, nil, slices.Repeat([]pushtest.Answer{answer}, 5000)...)
				defer w.close()
				time.Sleep(2 * time.Hour)
				if n := w.service.Counts().ByEnvironment[pushtest.TokenHost]; n < want[0] || n > want[1] {
					t.Errorf("the endpoint was asked %d times in two hours, want %v", n, want)
				}
			})
		})
	}
}
