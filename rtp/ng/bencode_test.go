package ng_test

import (
	"reflect"
	"strings"
	"testing"

	"reveille/rtp/ng"
)

func TestBencode(t *testing.T) {
	d := ng.Dict{"command": "offer", "flags": []string{"a", ""}, "n": -3, "in": ng.Dict{"list": []any{int64(1), "x", ng.Dict{}}}}
	b := ng.Encode([]byte("c "), d)
	if want := "c d7:command5:offer5:flagsl1:a0:e2:ind4:listli1e1:xdeee1:ni-3ee"; string(b) != want {
		t.Fatalf("encoded\n%s, want\n%s", b, want)
	}
	got, err := ng.Decode(b[2:])
	if err != nil {
		t.Fatal(err)
	}
	if got.Text("command") != "offer" || got.Int("n") != -3 || got.Dict("in").Dicts("list") == nil || got.Dict("none").Text("x") != "" {
		t.Errorf("decoded %v", got)
	}
}

func TestBencodeMalformed(t *testing.T) {
	deep := strings.Repeat("d1:a", 1000) + "1:b" + strings.Repeat("e", 1000)
	for _, text := range []string{
		"", "d", "de1:x", "le", "i1e", "3:abc", "d1:ae", "d1:a2:be", "d1:ai1", "di1e1:ae", "d1:ai--1ee", "d1:a+1:be", "d1:a-1:be",
		"d1:a99999999999999999999:be", "d1:ai99999999999999999999ee", "d1:ail1eee", "dd", "d1:al", deep,
	} {
		if d, err := ng.Decode([]byte(text)); err == nil {
			t.Errorf("%.40q decoded as %v", text, d)
		}
	}
}

// FuzzBencode: whatever comes from the network ends in a value or an error, and a value survives the way there and back.
func FuzzBencode(f *testing.F) {
	for _, seed := range []string{"de", "d6:result4:ponge", "d3:sdp3:v=0e", "d4:tagsd1:ad6:mediasld5:indexi1eeeeee", "d1:ai-9e1:bl0:dee"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ng.Decode(b)
		if err != nil {
			return
		}
		again, err := ng.Decode(ng.Encode(nil, d))
		if err != nil || !reflect.DeepEqual(d, again) {
			t.Errorf("%q: %v, again %v, %v", b, d, again, err)
		}
	})
}
