// The figures of RFC 3550, appendix A, line by line as in stats.go of package rtp: whoever changes one changes the other.

// As in package rtp.
#define MAX_DROPOUT 3000
#define MAX_MISORDER 100
#define NO_BAD (1 << 16)

enum { PASSES = 1, EVENT = 2 }; // format.flags
enum { STARTED = 1, TIMED = 2, EVENTS = 4 }; // reception.flags
#define FORMATS 14

struct format {
	__u8 in; // payload type as it comes; 0xff: no more formats
	__u8 out;
	__u8 flags;
	__u8 pad;
	__u32 rate;
};

// rtp is the fixed header, as on the wire.
struct rtp {
	__u8 first, second;
	__u16 seq;
	__u32 timestamp, ssrc;
};

// reception is that of package rtp.
struct reception {
	__u64 packets, bytes;
	__s64 last;
	__u64 seen;
	__u32 ssrc, highest, unique, bad;
	__u32 transit, jitter, rate, peak;

	__s64 gap, since;
	__u64 lost_before, reordered, duplicates, held, bytes_before;
	__u32 flags, base;

	__u32 bursts, burst, passed, sent_before;
};

static inline __s64 max64(__s64 a, __s64 b) { return a > b ? a : b; }
static inline __u32 max32(__u32 a, __u32 b) { return a > b ? a : b; }

static inline __u64 lost_now(const struct reception *r)
{
	__u32 expected = r->highest - r->base + 1;

	if (!(r->flags & STARTED) || expected <= r->unique)
		return 0;
	return expected - r->unique;
}

static inline void restart(struct reception *r, __u32 ssrc, __u16 seq)
{
	r->lost_before += lost_now(r);
	r->ssrc = ssrc;
	r->base = r->highest = r->passed = seq;
	r->sent_before = 0;
	r->bytes_before = r->bytes;
	r->bad = NO_BAD;
	r->unique = r->seen = 1;
	r->flags = STARTED | (r->flags & EVENTS);
}

static inline void late(struct reception *r, __u16 behind)
{
	__u64 bit = behind < 64 ? 1ULL << behind : 0;

	if (r->seen & bit) {
		r->duplicates++;
		return;
	}
	r->seen |= bit;
	r->reordered++;
	if (r->highest - behind >= r->base && r->highest >= behind)
		r->unique++;
}

static inline int sequence(struct reception *r, __u16 seq)
{
	__u16 ahead = seq - (__u16)r->highest;
	__u16 behind = -ahead;

	if (ahead == 0) {
		r->duplicates++;
		return 0;
	}
	if (ahead < MAX_DROPOUT) {
		if (ahead > 1) {
			r->bursts++;
			r->burst = max32(r->burst, ahead - 1);
		}
		r->highest += ahead;
		r->seen = (ahead < 64 ? r->seen << ahead : 0) | 1;
		r->unique++;
		r->bad = NO_BAD;
		return 1;
	}
	if (behind <= MAX_MISORDER) {
		late(r, behind);
		return 0;
	}
	if (seq == r->bad) {
		restart(r, r->ssrc, seq);
		return 1;
	}
	r->bad = (__u16)(seq + 1);
	return 0;
}

static inline void time(struct reception *r, __u32 timestamp, __u32 rate, __s64 now)
{
	__u32 transit = (__u32)((__u64)now / 1000 * rate / 1000000) - timestamp;

	if (rate != r->rate) {
		if (r->rate)
			r->peak = (__u64)r->peak * rate / r->rate;
		r->rate = rate;
		r->jitter = 0;
		r->flags &= ~TIMED;
	}
	if (r->flags & TIMED) {
		__u32 d = transit - r->transit;
		if (d >> 31)
			d = -d;
		r->jitter += d - ((r->jitter + 8) >> 4);
		r->peak = max32(r->peak, r->jitter);
	}
	r->transit = transit;
	r->flags |= TIMED;
}

// update counts an accepted packet; it is not the first one, which never comes here.
static inline void update(struct reception *r, const struct rtp *h, const struct format *f, __u32 len, __s64 now)
{
	__u32 ssrc = swap32(h->ssrc);
	__u16 seq = swap16(h->seq);
	int newest = 1;

	if (r->since > 0)
		r->gap = max64(r->gap, now - max64(r->last, r->since));
	r->packets++;
	r->last = now;
	if (!(r->flags & STARTED) || ssrc != r->ssrc)
		restart(r, ssrc, seq);
	else
		newest = sequence(r, seq);
	r->bytes += len;
	if (f->flags & EVENT)
		r->flags |= EVENTS;
	else if (newest)
		time(r, swap32(h->timestamp), f->rate, now);
}
