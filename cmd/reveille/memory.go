package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// gcPercent trades processor time for memory: thousands of parked calls are
	// mostly live heap, and the default of 100 would double it. GOGC overrides it.
	gcPercent = 25

	// ballast keeps a small heap from being collected all the time with so low a
	// percentage. It is never touched, so that it has no pages of its own.
	ballast = 192 << 20

	// A burst of calls leaves garbage and free pages behind, which the runtime
	// gives back slowly. Every trimInterval they are given back at once if they
	// are more than trimAbove; it costs one collection.
	trimInterval = 10 * time.Second
	trimAbove    = 8 << 20
)

// saveMemory tunes the collector and trims until ctx ends.
func saveMemory(ctx context.Context, env func(string) (string, bool)) {
	if _, set := env("GOGC"); !set {
		debug.SetGCPercent(gcPercent)
	}
	weight := make([]byte, ballast)
	defer runtime.KeepAlive(weight)
	tick := time.NewTicker(trimInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			trim()
		}
	}
}

// trim gives back to the system what is neither live nor of use soon.
func trim() {
	m := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(m)
	live, held := m[0].Value.Uint64(), m[1].Value.Uint64()+m[2].Value.Uint64()+m[3].Value.Uint64()
	if held > live+trimAbove {
		debug.FreeOSMemory()
	}
}
