//go:build linux && !amd64 && !arm64

package rtp

import "unsafe"

// prefetch does nothing: other processors are left to themselves.
func prefetch(unsafe.Pointer, uintptr) {}
