// Package mediabench measures the relay of package rtp beside rtpengine, a plain Go loop and the kernel's own limit:
// `make bench-media`, as root, on a quiet Linux machine of at least two processors. Nothing of it is in the product.
//
// # The bed
//
// The benchmark moves into a network namespace of its own, and starts the generator in another. Two veth links join
// them, one for the devices' side and one for the trunk's; a third goes from the generator to itself (the wire). Their
// checksum offload is off, so that every packet has a checksum to check. What is measured runs alone on the first
// processor, the generator and all else on the second, both with real-time priority: other programs hardly show, but get
// little time themselves. Not for a machine that has other work. One run waits for the end of another.
//
// The generator plays both ends of n calls: 2n streams of 50 packets/s, G.711 of 20 ms (172 bytes of RTP), each stream
// with its own place in the 20 ms. It sends and takes raw frames, and checks each that comes back: link, addresses,
// ports, lengths, both checksums, RTP header, sequence, payload bit for bit (decrypted by pion/srtp where the side is
// encrypted). A packet counts when it has arrived for the first time by half a second after the window; one
// that comes later is lost, as it is to a listener.
//
// # The rows
//
//	wire           no relay: one link, from the generator to the generator
//	rtpengine      Debian's, user space only (--table=-1), set up through its NG protocol; -cm and -gcm with SRTP
//	               towards the device and RTP towards the trunk
//	plain          two sockets a call, a goroutine for each, read and write
//	sockets        our relay without the kernel's help; -cm and -gcm as above
//	kernel         our relay with the fast path, where the system permits it
//	redirect       a TC program of four instructions that sends each frame on to the other link, unread: the limit
//
// Every row has a process of its own, started anew for every figure. Calls are set up by their descriptions, as in the
// product. All rows at one number of calls follow each other, in every round, in turns forwards and backwards; the
// figures are the medians of the rounds. Wire, kernel and redirect, whose differences are small, are measured three
// times in a round at 1,000 calls.
//
// # The figures
//
//	process        processor time of the row's process per packet that arrived, from the scheduler's nanoseconds
//	               (/proc/PID/task/*/schedstat). A veth hands a frame on within the sender's system call: the receive
//	               half of the relay's kernel work is done on the generator's processor, and the generator's tap is
//	               paid for by who sends. That is the same for all rows.
//	system         processor time of the whole machine per packet (all that was not idle, /proc/stat), less the wire's.
//	               It includes what the generator does for the relay (wake-ups, the receive path), and whatever else
//	               this machine does: on a busy machine it means nothing, and the table says so.
//	tasks          the same from the scheduler's view: relay, generator and ksoftirqd, less the wire's. It is blind to
//	               interrupts that hit an idle processor, but also to other programs.
//	p50, p99, max  from just before the system call that sends to the moment the kernel delivers to the generator's tap,
//	               less the wire's p50
//	lost           sent in the window and never arrived; twice: arrived again; bad: arrived and failed a check
//	resident       memory of the row's process with all calls talking; a call: the difference between the largest and
//	               the smallest number of calls, divided by theirs. Kernel memory of sockets is not in it.
//	heap           live Go heap, likewise
//	maps           memory of the kernel's maps of our fast path, which is there for the whole port range from the start
//	allocs         heap allocations of the row's process in the window per packet; the questions themselves make some 200
//
// Below stand the ratios of process at every number of calls, and who was behind: a relay at its processor's limit takes
// several packets of a socket at once, cheaply and late. The kernel is given up to 10 s to have all directions.
//
// # Churn
//
// 500 calls talk for a minute; every 240 ms the 20 oldest end and 20 others begin (5,000 a minute), once through
// sockets and once with the fast path. No packet may be lost: a call's ends fall silent 60 ms before its ports
// are closed. Afterwards all calls end, and the process must have as many descriptors and goroutines as
// before them, nothing in the kernel, and room for as many calls as its ports can hold.
//
// # Noise
//
// Alone on the machine, medians repeat within some 5 %; at 100 calls, and for figures below 1 µs, within 0.1 to 0.2 µs.
// Processors that share a core, and clocks that go up and down, shift all rows of a round alike: believe the ratios.
// The line "others" says how much processor time went to programs that are not part of this; above 5 %, measure again.
// Max is one packet of a million and says more about the machine than about the row.
//
// # Shortening
//
//	make bench-media ONLY=sockets CALLS=1000 SECONDS=5 ROUNDS=1
//	make bench-media ONLY=wire,rtpengine,sockets CALLS=500,1000
//	make bench-media ONLY=churn
//
// PROFILE=file writes a processor profile of our relay's last window there, for `go tool pprof`.
package mediabench
