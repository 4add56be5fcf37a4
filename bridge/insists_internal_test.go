package bridge

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"reveille/sip/location"
)

// A phone that took plain RTP only is offered keys first again after a day, however often it is called in between; what
// it takes then is known again for a day. Another device, or another version of its app, knows nothing of that.
func TestInsistenceIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var i insists
		b := location.Binding{AOR: "1001", DeviceID: "a", UserAgent: "app/1"}
		list := []offering{offerFirst, offerEncrypted, offerDTLS, offerPlain}
		first := func(b location.Binding) offering { return i.order(b, slices.Clone(list))[0] }
		for range 2 {
			i.note(b, offerPlain, offerFirst)
			for range 23 {
				time.Sleep(time.Hour)
				if got := first(b); got != offerPlain {
					t.Fatalf("begins with %d", got)
				}
				i.note(b, offerPlain, offerFirst)
			}
			time.Sleep(2 * time.Hour)
			if got := first(b); got != offerFirst {
				t.Errorf("after a day it begins with %d", got)
			}
		}
		i.note(b, offerPlain, offerFirst)
		for _, other := range []location.Binding{{AOR: "1001", DeviceID: "b", UserAgent: "app/1"}, {AOR: "1001", DeviceID: "a", UserAgent: "app/2"}} {
			if got := first(other); got != offerFirst {
				t.Errorf("%v begins with %d", other, got)
			}
		}
		i.note(b, offerFirst, offerFirst)
		if got := first(b); got != offerFirst || len(i.kinds) > 0 {
			t.Errorf("what is as at first is kept: %v", i.kinds)
		}
	})
}
