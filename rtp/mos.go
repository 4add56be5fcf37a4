package rtp

import (
	"math"
	"strings"
	"time"
)

// quality is what the E-model (ITU-T G.107) is told of one direction of a call. All else has the default of its table 2:
// quiet rooms, good handsets, an echo loss of 65 dB.
type quality struct {
	codec codec
	loss  float64       // share of packets missing, 0 to 1; counted as random
	delay time.Duration // from mouth to ear, one way
}

// codec is what G.113 appendix I says of one.
type codec struct {
	ie  float64 // equipment impairment without loss
	bpl float64 // robustness against loss
}

// impairment is the codec of an encoding name. G.711, G.729 A, G.723.1, AMR at 12.2 kbit/s (which is GSM-EFR) and the
// impairments of GSM-FR and G.726 at 32 kbit/s are those of G.113 appendix I, G.711 with its loss concealment, as phones
// have it. The robustness of the last two and iLBC are estimates. The scale of G.107 ends with narrowband, so what is
// wider than that counts as G.711: never worse, and never better.
func impairment(name string) codec {
	switch strings.ToUpper(name) {
	case "G729":
		return codec{11, 19}
	case "G723":
		return codec{15, 16.1}
	case "AMR", "GSM-EFR":
		return codec{5, 10}
	case "GSM":
		return codec{20, 10}
	case "G726-32":
		return codec{7, 10}
	case "ILBC":
		return codec{11, 19}
	}
	return codec{0, 25.1}
}

// What G.107 gives for its defaults, apart from delay: equations 7-2 to 7-17.
const (
	signalToNoise = 94.7688   // Ro
	simultaneous  = 1.4136    // Is
	noise         = -61.1792  // No, dBm0p
	receiveLoss   = 2.0       // RLR, dB
	echoLoss      = 65.0      // TELR, dB
	echoPath      = 110.0 + 7 // WEPL + 7, dB
)

// rating is the transmission rating factor: R = Ro - Is - Id - Ie,eff (G.107 equation 7-1; the advantage factor is 0). It
// is 93.2 for a perfect call.
func (q quality) rating() float64 {
	ms := float64(q.delay) / float64(time.Millisecond)
	return signalToNoise - simultaneous - talkerEcho(ms) - listenerEcho(2*ms) - longDelay(ms) - q.equipment()
}

// equipment is Ie,eff (equation 7-29) for random loss: BurstR is 1.
func (q quality) equipment() float64 {
	percent := 100 * q.loss
	return q.codec.ie + (95-q.codec.ie)*percent/(percent+q.codec.bpl)
}

// talkerEcho is Idte (equations 7-19 to 7-22), for a delay in ms.
func talkerEcho(t float64) float64 {
	if t < 1 {
		return 0
	}
	terv := echoLoss - 40*math.Log10((1+t/10)/(1+t/150)) + 6*math.Exp(-.3*t*t)
	roe, re := -1.5*(noise-receiveLoss), 80+2.5*(terv-14)
	return ((roe-re)/2 + math.Sqrt((roe-re)*(roe-re)/4+100) - 1) * (1 - math.Exp(-t))
}

// listenerEcho is Idle (equations 7-24 and 7-25), for the round trip in ms.
func listenerEcho(t float64) float64 {
	rle := 10.5 * echoPath * math.Pow(t+1, -.25)
	return (signalToNoise-rle)/2 + math.Sqrt((signalToNoise-rle)*(signalToNoise-rle)/4+169)
}

// longDelay is Idd (equations 7-27 and 7-28), for a delay in ms: what even a call without echo suffers.
func longDelay(t float64) float64 {
	if t <= 100 {
		return 0
	}
	x := math.Log2(t / 100)
	return 25 * (math.Pow(1+math.Pow(x, 6), 1./6) - 3*math.Pow(1+math.Pow(x/3, 6), 1./6) + 2)
}

// opinion is the mean opinion score of a rating: 1 is bad, 4.5 the best there is (G.107 annex B).
func opinion(r float64) float64 {
	switch {
	case r <= 0:
		return 1
	case r >= 100:
		return 4.5
	}
	return max(1, 1+.035*r+r*(r-60)*(100-r)*7e-6)
}

// playout estimates the delay that a receiver adds: a packet is recorded before it goes, and waits for its place in a
// buffer that holds twice the jitter, and one packet at least.
func playout(jitter time.Duration) time.Duration { return frameTime + max(frameTime, 2*jitter) }
