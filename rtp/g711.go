package rtp

import "math/bits"

// encodeULaw gives the G.711 µ-law octet of a 16-bit sample (ITU-T G.711 table 2; 14 significant bits).
func encodeULaw(sample int16) byte {
	const bias, clip = 0x84, 32635
	v, sign := int(sample), byte(0)
	if v < 0 {
		v, sign = -v, 0x80
	}
	v = min(v, clip) + bias
	exponent := bits.Len(uint(v)) - 8
	mantissa := byte(v>>(exponent+3)) & 0x0f
	return ^(sign | byte(exponent)<<4 | mantissa)
}

// encodeALaw gives the G.711 A-law octet of a 16-bit sample (ITU-T G.711 table 1; 13 significant bits).
func encodeALaw(sample int16) byte {
	v, sign := int(sample), byte(0x80)
	if v < 0 {
		v, sign = -v-1, 0
	}
	v >>= 4
	code := byte(v)
	if v >= 32 {
		exponent := bits.Len(uint(v)) - 5
		code = byte(exponent+1)<<4 | byte(v>>exponent)&0x0f
	}
	return (sign | code) ^ 0x55
}

// decodeULaw is the inverse of encodeULaw, up to the quantisation.
func decodeULaw(code byte) int16 {
	code = ^code
	v := (int(code&0x0f)<<3+0x84)<<(code>>4&7) - 0x84
	if code&0x80 != 0 {
		v = -v
	}
	return int16(v)
}

// decodeALaw is the inverse of encodeALaw, up to the quantisation.
func decodeALaw(code byte) int16 {
	code ^= 0x55
	v := int(code&0x0f)<<4 + 8
	if exponent := code >> 4 & 7; exponent > 0 {
		v = (v + 0x100) << (exponent - 1)
	}
	if code&0x80 == 0 {
		v = -v
	}
	return int16(v)
}
