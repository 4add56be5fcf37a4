package rtp

import (
	"math"
	"testing"
	"time"
)

// near fails the test unless two figures agree.
func near(t *testing.T, what string, got, want, by float64) {
	t.Helper()
	if math.Abs(got-want) > by || math.IsNaN(got) {
		t.Errorf("%s is %.4f, want %.4f", what, got, want)
	}
}

// With all its defaults G.107 gives R = 93.2 (table 2, note 3), of which the score is 4.41.
func TestRatingDefault(t *testing.T) {
	r := quality{codec: impairment("PCMA")}.rating()
	near(t, "R", r, 93.2, .05)
	near(t, "MOS", opinion(r), 4.41, .005)
}

// Table B.1 of G.107: the scores of the limits of its classes of quality.
func TestOpinion(t *testing.T) {
	for r, want := range map[float64]float64{-5: 1, 0: 1, 3: 1, 50: 2.58, 60: 3.10, 70: 3.60, 80: 4.03, 90: 4.34, 100: 4.5, 120: 4.5} {
		near(t, "MOS", opinion(r), want, .01)
	}
}

// The fit to the E-model's curve of delay by Cole and Rosenbluth (Voice over IP Performance Monitoring, 2001):
// Id = 0.024 d + 0.11 (d - 177.3) H(d - 177.3), which holds up to 300 ms.
func TestRatingDelay(t *testing.T) {
	for _, d := range []float64{0, 50, 100, 150, 200, 250, 300} {
		want := 93.2 - .024*d - .11*max(0, d-177.3)
		near(t, "R", quality{codec: impairment("PCMU"), delay: time.Duration(d) * time.Millisecond}.rating(), want, .4)
	}
}

// Codecs without loss, and with it: R = 93.2 - Ie - (95 - Ie) Ppl / (Ppl + Bpl), as G.113 appendix I has the values.
func TestRatingCodec(t *testing.T) {
	for _, test := range []struct {
		codec   string
		percent float64
		want    float64
	}{
		{"PCMA", 0, 93.2}, {"PCMU", 1, 89.6}, {"pcmu", 5, 77.4}, {"G729", 0, 82.2}, {"G729", 2, 74.2}, {"G723", 0, 78.2},
		{"AMR", 0, 88.2}, {"AMR", 3, 67.4}, {"GSM", 0, 73.2}, {"opus", 0, 93.2}, {"G722", 1, 89.6}, {"PCMA", 100, 17.3},
	} {
		near(t, test.codec, quality{codec: impairment(test.codec), loss: test.percent / 100}.rating(), test.want, .1)
	}
}

// The constants of the defaults, by the equations of G.107 themselves.
func TestRatingConstants(t *testing.T) {
	const slr, rlr, stmr, d, ps, pr, nc, nfor = 8, 2, 15, 3, 35, 35, -70, -64
	power := func(db float64) float64 { return math.Pow(10, db/10) }
	level := func(p float64) float64 { return 10 * math.Log10(p) }
	nos := ps - slr - d - 100 + .004*math.Pow(ps-slr-rlr-d-14, 2)
	pre := pr + level(1+power(10-stmr-d))
	nor := rlr - 121 + pre + .008*math.Pow(pre-35, 2)
	no := level(power(nc) + power(nos) + power(nor) + power(nfor+rlr))
	near(t, "No", noise, no, 1e-4)
	ro := 15 - 1.5*(slr+no)
	near(t, "Ro", signalToNoise, ro, 1e-4)
	smooth := func(x, n float64) float64 { return math.Pow(1+math.Pow(x, n), 1/n) }
	x := slr + rlr + .2*(64+no-rlr)
	loud := 20 * (smooth(x/8, 8) - x/8)
	s := -level(power(-stmr) + power(-echoLoss))
	side := 12*smooth((s-13)/6, 8) - 28*smooth((s+1)/19.4, 35) - 13*smooth((s-3)/33, 13) + 29
	const q = 37 // of one unit of quantizing distortion
	g := 1.07 + .258*q + .0602*q*q
	quantizing := 15 * math.Log10(1+math.Pow(10, (ro-100)/15+46/8.4-g/9)+math.Pow(10, 46./30-g/40))
	near(t, "Is", simultaneous, loud+side+quantizing, 1e-4)
}
