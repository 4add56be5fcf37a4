//go:build race

package sip

// raced: the race detector makes everything several times slower.
const raced = true
