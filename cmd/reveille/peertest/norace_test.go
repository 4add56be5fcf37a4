//go:build !race

package peertest

var buildFlags []string
