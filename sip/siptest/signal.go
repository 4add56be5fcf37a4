package siptest

import "math"

// Frame is packet k of a source's signal, 160 bytes of G.711 A-law: a tone that
// glides between 300 and 3400 Hz at a pace of the source's own, so that no two
// packets of one call are alike.
func Frame(source uint32, k int) []byte {
	pace := 0.11 + float64(source%97)/1000
	out := make([]byte, 160)
	for i := range out {
		t := float64(k*160+i) / 8000
		// The phase is the integral of the frequency 1850+1550*cos(2*pi*pace*t).
		phase := 1850*t + 1550*math.Sin(2*math.Pi*pace*t)/(2*math.Pi*pace)
		out[i] = alaw(int16(12000 * math.Sin(2*math.Pi*phase)))
	}
	return out
}

// alaw encodes one sample (ITU-T G.711, table 1a).
func alaw(s int16) byte {
	sign, v := byte(0x80), int(s)>>3
	if v < 0 {
		sign, v = 0, ^v
	}
	segment := 0
	for m := v >> 5; m > 0; m >>= 1 {
		segment++
	}
	shift := max(segment, 1)
	return (sign | byte(segment<<4) | byte(v>>shift&0x0f)) ^ 0x55
}
