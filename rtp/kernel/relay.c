//go:build ignore

// The fast path: relays the RTP packets of a stream whose both ends are known, where they come in, before the rest of the
// system has any work with them. It runs at the ingress of an interface (TC, by TCX or clsact).
//
// A packet that is not exactly what a stream's entry describes goes up to the sockets as if this program were not there.
// The figures that it keeps are those of package rtp (stats.go), field by field; the tests run both with the same packets.
//
// Compiled by go generate; relay.o stands beside this file in the repository, so that nobody else needs a compiler.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/pkt_cls.h>

#define SEC(name) __attribute__((section(name), used))
#define inline inline __attribute__((always_inline))
#define swap16(x) __builtin_bswap16(x) // little-endian machines only: the Go side builds for no others
#define swap32(x) __builtin_bswap32(x)

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static __u64 (*bpf_ktime_get_ns)(void) = (void *)BPF_FUNC_ktime_get_ns;
static long (*bpf_skb_load_bytes)(const void *skb, __u32 offset, void *to, __u32 len) = (void *)BPF_FUNC_skb_load_bytes;
static long (*bpf_skb_store_bytes)(struct __sk_buff *skb, __u32 offset, const void *from, __u32 len, __u64 flags) =
	(void *)BPF_FUNC_skb_store_bytes;
static long (*bpf_l4_csum_replace)(struct __sk_buff *skb, __u32 offset, __u64 from, __u64 to, __u64 size) =
	(void *)BPF_FUNC_l4_csum_replace;
static long (*bpf_redirect_neigh)(__u32 ifindex, struct bpf_redir_neigh *params, int len, __u64 flags) =
	(void *)BPF_FUNC_redirect_neigh;

// Loops are no loops in the program: without CAP_PERFMON the verifier also follows where the processor may go on
// speculation, and there a loop has no end.
#define unrolled _Pragma("clang loop unroll(full)")

// Not ours: the next program, then the system.
#define UP TC_ACT_UNSPEC

// Who may use an entry.
enum {
	SOCKETS, // user space; packets go up
	IDLE,    // this program
	BUSY,    // this program, in the midst of a packet
};

// Two processors with packets of one stream at the same time are rare, and 100 ns apart.
#define CLAIMS 16

#define MAX_PACKET 1536 // as in package rtp

#include "reception.h"

// entry is one direction of a stream: packets that come to one of our ports. Addresses and ports are as on the wire,
// IPv4 in the first four bytes.
struct entry {
	// Whose packets.
	__u32 state;
	__u32 turns; // packets so far; tells a reader that it was disturbed
	__u32 in_if;
	__u16 peer_port;
	__u8 family; // 4 or 6
	__u8 tos;    // to send with
	__u32 peer[4];
	__u32 local[4];
	__s64 epoch; // moment 0 of package rtp on this machine's monotonic clock
	__u32 out_if; // 0: to a program on this machine, as the packet comes from one
	__u32 mtu;

	// Where to.
	__u32 source[4];
	__u32 target[4];
	__u32 gateway[4];
	__u16 source_port;
	__u16 target_port;
	__u16 ip_sum; // what the IPv4 header's checksum gains by the new addresses
	__u16 gateway_family; // 0: the routing table says
	__u32 address_sum; // and the UDP checksum
	__u32 port_sum;

	struct reception got;
	struct format formats[FORMATS];
};

struct {
	int (*type)[BPF_MAP_TYPE_ARRAY];
	int (*max_entries)[1]; // one for each pair of ports; set when it is loaded
	int (*map_flags)[BPF_F_MMAPABLE];
	__u32 *key;
	struct entry *value;
} streams SEC(".maps");

volatile const __u16 first_port = 0; // even; entry i is port first_port + 2i
volatile __u64 lease = 0; // good until then; a process that was killed does not renew it

// What a test holds against relay.c.
const char source_hash[] SEC(".source") = SOURCE_HASH;

// Those of linux/ip.h and linux/udp.h, without what their inclusion drags in.
struct header4 {
	__u8 version, tos;
	__u16 len, id, fragment;
	__u8 ttl, protocol;
	__u16 check;
	__u32 source, target;
	__u16 source_port, target_port, udp_len, udp_check;
	struct rtp rtp;
} __attribute__((packed));

struct header6 {
	__u32 version;
	__u16 len;
	__u8 next, hops;
	__u32 source[4], target[4];
	__u16 source_port, target_port, udp_len, udp_check;
	struct rtp rtp;
} __attribute__((packed));

static inline struct entry *find(__u16 target_port)
{
	__u16 port = swap16(target_port);
	__u32 key = (__u32)(port - first_port) >> 1;

	if (port & 1 || port < first_port)
		return 0;
	return bpf_map_lookup_elem(&streams, &key);
}

static inline int claim(struct entry *e)
{
	unrolled for (int i = 0; i < CLAIMS; i++) {
		__u32 was = __sync_val_compare_and_swap(&e->state, IDLE, BUSY);
		if (was == IDLE)
			return 1;
		if (was != BUSY)
			return 0;
	}
	return 0;
}

static inline void release(struct entry *e)
{
	e->turns++;
	__sync_lock_test_and_set(&e->state, IDLE); // a full barrier
}

// well_formed is wellFormed of package rtp; len is that of the RTP packet, at is where it begins.
static inline int well_formed(struct __sk_buff *skb, __u8 first, __u32 at, __u32 len)
{
	__u32 n = 12 + 4 * (first & 0x0f);

	if (first & 0x10) {
		__u16 words;
		if (len < n + 4 || bpf_skb_load_bytes(skb, at + n + 2, &words, 2))
			return 0;
		n += 4 + 4 * (__u32)swap16(words);
	}
	if (first & 0x20) {
		__u8 padding;
		if (len <= n || bpf_skb_load_bytes(skb, at + len - 1, &padding, 1) || padding == 0)
			return 0;
		n += padding;
	}
	return n <= len;
}

// may_be_ours is what needs no entry: RTP and not RTCP on the same port (RFC 5761).
static inline int may_be_ours(struct __sk_buff *skb, const struct rtp *r, __u32 at, __u32 len)
{
	if (len < 12 || len >= MAX_PACKET || r->first >> 6 != 2)
		return 0;
	if (r->second >= 192 && r->second <= 223)
		return 0;
	return !(r->first & 0x30 || r->first & 0x0f) || well_formed(skb, r->first, at, len);
}

static inline struct format *agreed(struct entry *e, __u8 type)
{
	unrolled for (int i = 0; i < FORMATS; i++) {
		if (e->formats[i].in == type)
			return &e->formats[i];
		if (e->formats[i].in == 0xff)
			break;
	}
	return 0;
}

// What is to be done with a packet, copied from its entry while that is ours.
struct verdict {
	int act; // UP, TC_ACT_OK: to be sent, TC_ACT_SHOT
	__u32 out_if, address_sum, port_sum;
	struct bpf_redir_neigh next;
};

static inline __u32 added(__u32 sum, __u16 was, __u16 is)
{
	return sum + (__u16)~was + is;
}

static inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return sum + (sum >> 16);
}

// take counts a packet that is the peer's, and rewrites its RTP header. The entry is claimed.
static inline void take(struct entry *e, struct rtp *r, __u32 len, __u64 clock, struct verdict *v)
{
	struct format *f = agreed(e, r->second & 0x7f);
	__u8 second;

	if (!f)
		return;
	update(&e->got, r, f, len, clock - e->epoch);
	if (!(f->flags & PASSES)) {
		e->got.held++;
		v->act = TC_ACT_SHOT;
		return;
	}
	second = (r->second & 0x80) | f->out;
	v->act = TC_ACT_OK;
	v->out_if = e->out_if;
	v->address_sum = e->address_sum;
	v->port_sum = added(e->port_sum, r->second << 8, second << 8);
	v->next.nh_family = e->gateway_family;
	__builtin_memcpy(v->next.ipv6_nh, e->gateway, 16);
	r->second = second;
}

// leave puts the new header into the packet, and sends it off.
static inline int leave(struct __sk_buff *skb, const void *header, __u32 size, __u32 udp, struct verdict *v)
{
	if (bpf_skb_store_bytes(skb, ETH_HLEN, header, size, 0))
		return TC_ACT_SHOT;
	bpf_l4_csum_replace(skb, udp + 6, 0, v->address_sum, BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0);
	bpf_l4_csum_replace(skb, udp + 6, 0, v->port_sum, BPF_F_MARK_MANGLED_0);
	if (v->out_if == 0)
		return TC_ACT_OK; // it goes up, and finds the other program's socket
	if (v->next.nh_family == 0)
		return bpf_redirect_neigh(v->out_if, 0, 0, 0);
	return bpf_redirect_neigh(v->out_if, &v->next, sizeof(v->next), 0);
}

static inline int relay4(struct __sk_buff *skb)
{
	struct header4 h;
	struct verdict v = {.act = UP};
	struct entry *e;
	__u32 len;
	__u64 clock;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &h, sizeof(h)))
		return UP;
	if (h.version != 0x45 || h.protocol != IPPROTO_UDP || h.fragment & swap16(0x3fff))
		return UP;
	e = find(h.target_port);
	if (!e || e->state == SOCKETS)
		return UP;
	len = swap16(h.udp_len);
	if (len < 8 || len + 20 != swap16(h.len) || len + 20 + ETH_HLEN > skb->len)
		return UP;
	if (!may_be_ours(skb, &h.rtp, ETH_HLEN + 28, len - 8))
		return UP;
	clock = bpf_ktime_get_ns();
	if (clock > lease || !claim(e))
		return UP;
	if (e->family == 4 && h.source == e->peer[0] && h.source_port == e->peer_port && h.target == e->local[0] &&
	    skb->ifindex == e->in_if && len + 20 <= e->mtu) {
		take(e, &h.rtp, len - 8, clock, &v);
		__u32 sum = added((__u16)~h.check + e->ip_sum, h.tos << 8, e->tos << 8);
		h.check = ~fold(added(sum, h.ttl, 64));
		h.tos = e->tos;
		h.ttl = 64;
		h.source = e->source[0];
		h.target = e->target[0];
		h.source_port = e->source_port;
		h.target_port = e->target_port;
	}
	release(e);
	if (v.act != TC_ACT_OK)
		return v.act;
	return leave(skb, &h, 30, ETH_HLEN + 20, &v);
}

static inline int same(const __u32 *a, const __u32 *b)
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

static inline int relay6(struct __sk_buff *skb)
{
	struct header6 h;
	struct verdict v = {.act = UP};
	struct entry *e;
	__u32 len;
	__u64 clock;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &h, sizeof(h)))
		return UP;
	if ((h.version & 0xf0) != 0x60 || h.next != IPPROTO_UDP)
		return UP;
	e = find(h.target_port);
	if (!e || e->state == SOCKETS)
		return UP;
	len = swap16(h.udp_len);
	// Without a checksum, IPv6 has no UDP (RFC 8200 §8.1): the sockets know what to do.
	if (len < 8 || len != swap16(h.len) || len + 40 + ETH_HLEN > skb->len || h.udp_check == 0)
		return UP;
	if (!may_be_ours(skb, &h.rtp, ETH_HLEN + 48, len - 8))
		return UP;
	clock = bpf_ktime_get_ns();
	if (clock > lease || !claim(e))
		return UP;
	if (e->family == 6 && h.source_port == e->peer_port && same(h.source, e->peer) && same(h.target, e->local) &&
	    skb->ifindex == e->in_if && len + 40 <= e->mtu) {
		take(e, &h.rtp, len - 8, clock, &v);
		h.version = swap32(0x60000000 | (__u32)e->tos << 20);
		h.hops = 64;
		__builtin_memcpy(h.source, e->source, 16);
		__builtin_memcpy(h.target, e->target, 16);
		h.source_port = e->source_port;
		h.target_port = e->target_port;
	}
	release(e);
	if (v.act != TC_ACT_OK)
		return v.act;
	return leave(skb, &h, 50, ETH_HLEN + 40, &v);
}

SEC("tc") int relay(struct __sk_buff *skb)
{
	if (skb->pkt_type != 0 || skb->vlan_present || skb->gso_size) // PACKET_HOST is 0
		return UP;
	if (skb->protocol == swap16(ETH_P_IP))
		return relay4(skb);
	if (skb->protocol == swap16(ETH_P_IPV6))
		return relay6(skb);
	return UP;
}
