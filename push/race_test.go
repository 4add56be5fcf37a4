//go:build race

package push

// underRace: the race detector of Go 1.26 fails (golang/go#78156) in a bubble
// with very many timers, so that long tests make do with fewer.
const underRace = true
