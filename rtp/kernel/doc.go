// Package kernel is the fast path of the relay: an eBPF program at the ingress of the network interfaces (TC), which
// relays the RTP packets of streams whose both ends are known and plain, without a socket, a copy or a wake-up. Linux
// only, 5.12 or later; with TCX (6.6 and later) the kernel itself removes it when the process ends.
//
// What user space and the program share is an array in memory, an entry for each pair of ports. Installing, removing
// and reading a stream are reads and writes of that memory, without a system call. Who may use an entry is said by its
// first word: user space fills an entry while it has it, then gives it to the program; the program claims it for each
// packet; user space takes it back between two packets. So each packet is either relayed and counted here, or goes up to
// the socket and is counted there, and neither side ever sees the other's work half done.
//
// A packet goes up as if the program were not there unless all of this holds: it is UDP, whole, without IP options, for
// this machine; it comes from the address and port of the peer to the address and port of ours, by the interface that
// the peer is reached by; it is well-formed RTP and no RTCP; its payload type is agreed; it fits the next link.
package kernel
