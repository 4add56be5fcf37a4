package bridge

import "testing"

// The time of a lookup tells nobody which extensions exist.
func TestHA1OfAnUnknownExtensionIsTheSameWork(t *testing.T) {
	r, err := newRoutes([]Extension{
		{Name: "1001", Password: "secret"},
		{Name: "1002", HA1: map[string]string{"MD5": "0123456789abcdef0123456789abcdef"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	work := map[string]float64{}
	for user, known := range map[string]bool{"1001": true, "1002": true, "9999": false} {
		work[user] = testing.AllocsPerRun(100, func() {
			if _, ok := r.HA1(user, "example.com", "MD5"); ok != known {
				t.Fatalf("%s: %v", user, ok)
			}
		})
	}
	if work["1001"] != work["9999"] || work["1002"] != work["9999"] {
		t.Errorf("allocations: %v", work)
	}
}
