package mediabench

import (
	"math/bits"
	"time"
)

// histogram counts durations in classes of 1/64 of their size, from 64 ns up.
type histogram struct {
	counts [64 * 64]uint32
	total  uint64
	max    int64
}

func class(ns int64) int {
	if ns < 64 {
		return int(max(ns, 0))
	}
	shift := bits.Len64(uint64(ns)) - 7
	return (shift+1)*64 + int(ns>>shift)&63
}

func (h *histogram) add(ns int64) {
	h.counts[class(ns)]++
	h.total++
	h.max = max(h.max, ns)
}

// quantile is a duration that the share q of all does not exceed, as exact as the classes are.
func (h *histogram) quantile(q float64) time.Duration {
	if h.total == 0 {
		return 0
	}
	left := int64(q * float64(h.total-1))
	for c, n := range h.counts {
		if left -= int64(n); left >= 0 {
			continue
		}
		if c < 64 {
			return time.Duration(c)
		}
		shift := c/64 - 1
		return time.Duration((64+int64(c%64))<<shift + 1<<shift/2)
	}
	return time.Duration(h.max)
}
