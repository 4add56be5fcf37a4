// Package loadtest holds the benchmarks of the whole bridge: the real binary
// in a process of its own, a carrier and phones on raw sockets, and a push
// service, all on loopback. Run it with `make bench`; nothing here is asserted
// about time, only about calls and pushes that were lost or doubled.
package loadtest
