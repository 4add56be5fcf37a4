//go:build !linux

package rtp

// countFiles knows of no limit.
func (*Relay) countFiles(_, _ uint16) {}
