//go:build linux && (amd64 || arm64)

package rtp

import "unsafe"

// prefetch asks the processor for size bytes of memory at p, size above 0, and does not wait for them. It cannot fail,
// reads nothing, and changes nothing but time.
//
//go:noescape
func prefetch(p unsafe.Pointer, size uintptr)
