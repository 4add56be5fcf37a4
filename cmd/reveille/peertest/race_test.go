//go:build race

package peertest

// buildFlags builds the bridge with the race detector when the tests have it.
var buildFlags = []string{"-race"}
