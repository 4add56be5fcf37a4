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
	for life, want := range map[string][2]int{ // in ten hours
		"3599":                {13, 15},
		"4294967295":          {2, 2},
		"9223372036":          {2, 2},
		"9223372036854775807": {2, 410},
		"0":                   {150, 170},
		"-3600":               {150, 170},
	} {
		t.Run(life, func(t *testing.T) {
			answer := pushtest.Answer{Status: 200, Body: fmt.Sprintf(`{"access_token":"ya29.x","token_type":"Bearer","expires_in":%s}`, life)}
			synctest.Test(t, func(t *testing.T) {
				w := newFCMPipeWorld(t, nil, slices.Repeat([]pushtest.Answer{answer}, 5000)...)
				defer w.close()
				time.Sleep(10 * time.Hour)
				if n := w.service.Counts().ByEnvironment[pushtest.TokenHost]; n < want[0] || n > want[1] {
					t.Errorf("the endpoint was asked %d times in ten hours, want %v", n, want)
				}
			})
		})
	}
}
