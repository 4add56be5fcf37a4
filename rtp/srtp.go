package rtp

import (
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"slices"

	"reveille/rtp/sdp"
)

// Reasons for which SRTP drops a packet.
var (
	errForged   = errors.New("SRTP: not authentic")
	errReplayed = errors.New("SRTP: replayed, or too old to tell")
	errRoom     = errors.New("SRTP: no room for the tag")
	errSpent    = errors.New("SRTP: the key has been used up")
)

// keyed is one direction of an SRTP stream: what it is encrypted with, and where each of its sources stands (RFC
// 3711 §3.2). One goroutine at a time may use it.
type keyed struct {
	rtp, rtcp *transform
	sources   []srtpSource // in the order they came
}

// srtpSource is a source's place in its stream. Of a source that sends, it keeps from using a key stream twice; of one
// that receives, it is the replay list (RFC 3711 §3.3.2).
type srtpSource struct {
	ssrc        uint32
	rtp, rtcp   window
	reportIndex uint32 // of the last SRTCP packet sent
}

// maxSources bounds what is kept of one key; only packets that are authentic, or believed, come to be counted. A call has
// a few: each hold, transfer or announcement may bring a new one. None is ever forgotten for another: it could come
// again, with numbers that its key has been used for. The next key knows the latest only.
const (
	maxSources    = 1024
	latestSources = 32
)

// window remembers which of the last 64 packets have come (RFC 3711 §3.3.2: at least 64).
type window struct {
	highest uint64 // packet index: 48 bits, or 31 of SRTCP
	seen    uint64 // bit i: highest-i
	started bool
}

// fresh reports whether a packet has not come yet and is not too old to tell.
func (w *window) fresh(index uint64) bool {
	if !w.started || index > w.highest {
		return true
	}
	behind := w.highest - index
	return behind < 64 && w.seen&(1<<behind) == 0
}

// note marks a packet as having come.
func (w *window) note(index uint64) {
	switch {
	case !w.started:
		w.started, w.highest, w.seen = true, index, 1
	case index > w.highest:
		w.seen = w.seen<<(index-w.highest) | 1 // a shift of 64 or more gives 0
		w.highest = index
	default:
		w.seen |= 1 << (w.highest - index)
	}
}

// index is the packet index that a sequence number most likely stands for (RFC 3711 §3.3.1).
func (w *window) index(seq uint16) uint64 {
	if !w.started {
		return uint64(seq)
	}
	index := int64(w.highest) + int64(int16(seq-uint16(w.highest)))
	if index < 0 { // before the first round
		index = int64(seq)
	}
	return uint64(index)
}

// newKeyed derives the session keys of one direction.
func newKeyed(c sdp.Crypto) (*keyed, error) {
	rtp, err := newTransform(c.Suite, c.Key, 0)
	if err != nil {
		return nil, err
	}
	rtcp, err := newTransform(c.Suite, c.Key, labelRTCP)
	return &keyed{rtp: rtp, rtcp: rtcp}, err
}

// source finds what is known of a source; nil if that is nothing.
func (k *keyed) source(ssrc uint32) *srtpSource {
	for i := len(k.sources) - 1; i >= 0; i-- {
		if k.sources[i].ssrc == ssrc {
			return &k.sources[i]
		}
	}
	return nil
}

// full reports whether the key has had as many sources as it may.
func (k *keyed) full() bool { return len(k.sources) >= maxSources }

// keep enters a source.
func (k *keyed) keep(s srtpSource) *srtpSource {
	k.sources = append(k.sources, s)
	return &k.sources[len(k.sources)-1]
}

// latest are the sources that another key goes on with.
func (k *keyed) latest() []srtpSource {
	return slices.Clone(k.sources[max(0, len(k.sources)-latestSources):])
}

// seal encrypts an RTP or RTCP packet in place; it grows by the tag, into its capacity.
func (k *keyed) seal(packet []byte) ([]byte, error) {
	if isRTCP(packet) {
		return k.sealRTCP(packet)
	}
	ssrc, seq := binary.BigEndian.Uint32(packet[8:]), binary.BigEndian.Uint16(packet[2:])
	s := k.source(ssrc)
	if s == nil && k.full() {
		return nil, errSpent
	}
	if s == nil {
		s = k.keep(srtpSource{ssrc: ssrc})
	}
	index := s.rtp.index(seq)
	switch {
	case cap(packet)-len(packet) < k.rtp.tag:
		return nil, errRoom
	case index >= 1<<48:
		return nil, errSpent
	case !s.rtp.fresh(index): // two packets of one index would give the sum of both away (RFC 3711 §9.1)
		return nil, errReplayed
	}
	s.rtp.note(index)
	return k.rtp.sealRTP(packet, ssrc, index), nil
}

func (t *transform) sealRTP(packet []byte, ssrc uint32, index uint64) []byte {
	n := headerLength(packet)
	if t.aead != nil {
		return t.aead.Seal(packet[:n], t.nonce(ssrc, index), packet[n:], packet[:n])
	}
	t.xor(packet[n:], ssrc, index)
	return append(packet, t.mac(packet, uint32(index>>16))...)
}

// open decrypts an SRTP packet in place once it has proven authentic. guess is a rollover counter that a source not
// known yet may have.
func (k *keyed) open(packet []byte, guess uint64) ([]byte, error) {
	if isRTCP(packet) {
		return k.openRTCP(packet)
	}
	ssrc, seq := binary.BigEndian.Uint32(packet[8:]), binary.BigEndian.Uint16(packet[2:])
	s := k.source(ssrc)
	var index uint64
	if s != nil {
		index = s.rtp.index(seq)
		if !s.rtp.fresh(index) {
			return nil, errReplayed
		}
	} else if k.full() {
		return nil, errSpent
	} else {
		index = guess<<16 | uint64(seq)
	}
	out, err := k.rtp.openRTP(packet, ssrc, index)
	if err != nil {
		return nil, err
	}
	if s == nil {
		s = k.keep(srtpSource{ssrc: ssrc})
	}
	s.rtp.note(index)
	return out, nil
}

func (t *transform) openRTP(packet []byte, ssrc uint32, index uint64) ([]byte, error) {
	n := headerLength(packet)
	if len(packet) < n+t.tag {
		return nil, errForged
	}
	if t.aead != nil {
		return openAEAD(t, packet[:n], packet[n:], packet[:n], ssrc, index)
	}
	body, tag := packet[:len(packet)-t.tag], packet[len(packet)-t.tag:]
	if !hmac.Equal(t.mac(body, uint32(index>>16)), tag) {
		return nil, errForged
	}
	t.xor(body[n:], ssrc, index)
	return body, nil
}

// openAEAD opens data in place, behind head.
func openAEAD(t *transform, head, data, aad []byte, ssrc uint32, index uint64) ([]byte, error) {
	out, err := t.aead.Open(data[:0], t.nonce(ssrc, index), data, aad)
	if err != nil {
		return nil, errForged
	}
	return head[:len(head)+len(out)], nil
}

// headerLength is that of the RTP header, in the clear: with contributing sources and extension. The packet is well
// formed.
func headerLength(packet []byte) int {
	n := 12 + 4*int(packet[0]&0x0f)
	if packet[0]&0x10 != 0 {
		n += 4 + 4*int(binary.BigEndian.Uint16(packet[n+2:]))
	}
	return n
}

// Of SRTCP (RFC 3711 §3.4): what stands in the clear, and the word with the index behind the packet, whose first bit
// says that it is encrypted.
const (
	clearRTCP     = 8
	indexRTCP     = 4
	encryptedRTCP = 1 << 31
)

// sealRTCP is seal for a compound of RTCP.
func (k *keyed) sealRTCP(packet []byte) ([]byte, error) {
	t, ssrc := k.rtcp, binary.BigEndian.Uint32(packet[4:])
	s := k.source(ssrc)
	if s == nil && k.full() {
		return nil, errSpent
	}
	if s == nil {
		s = k.keep(srtpSource{ssrc: ssrc})
	}
	switch {
	case cap(packet)-len(packet) < indexRTCP+t.tag:
		return nil, errRoom
	case s.reportIndex == encryptedRTCP-1:
		return nil, errSpent
	}
	s.reportIndex++
	index, word := uint64(s.reportIndex), s.reportIndex|encryptedRTCP
	if t.aead != nil {
		out := t.aead.Seal(packet[:clearRTCP], t.nonce(ssrc, index), packet[clearRTCP:], t.aadRTCP(packet, word))
		return binary.BigEndian.AppendUint32(out, word), nil
	}
	t.xor(packet[clearRTCP:], ssrc, index)
	sum := t.mac(packet, word)
	return append(binary.BigEndian.AppendUint32(packet, word), sum...), nil
}

// openRTCP is open for SRTCP. What is not encrypted is not taken: that would have been agreed by a parameter that we
// refuse.
func (k *keyed) openRTCP(packet []byte) ([]byte, error) {
	t, ssrc := k.rtcp, binary.BigEndian.Uint32(packet[4:])
	if len(packet) < clearRTCP+indexRTCP+t.tag {
		return nil, errForged
	}
	at := len(packet) - indexRTCP // of the word: behind the tag of AES-GCM, before that of HMAC
	if t.aead == nil {
		at -= t.tag
	}
	word := binary.BigEndian.Uint32(packet[at:])
	index := uint64(word &^ encryptedRTCP)
	s := k.source(ssrc)
	switch {
	case word&encryptedRTCP == 0:
		return nil, errForged
	case s == nil && k.full():
		return nil, errSpent
	case s != nil && !s.rtcp.fresh(index):
		return nil, errReplayed
	}
	body := packet[:at]
	if t.aead != nil {
		var err error
		if body, err = openAEAD(t, packet[:clearRTCP], packet[clearRTCP:at], t.aadRTCP(packet, word), ssrc, index); err != nil {
			return nil, err
		}
	} else {
		if !hmac.Equal(t.mac(body, word), packet[at+indexRTCP:]) {
			return nil, errForged
		}
		t.xor(body[clearRTCP:], ssrc, index)
	}
	if s == nil {
		s = k.keep(srtpSource{ssrc: ssrc})
	}
	s.rtcp.note(index)
	return body, nil
}

// aadRTCP is what AES-GCM authenticates besides the encrypted part (RFC 7714 §9.3).
func (t *transform) aadRTCP(packet []byte, word uint32) []byte {
	copy(t.aad[:], packet[:clearRTCP])
	binary.BigEndian.PutUint32(t.aad[clearRTCP:], word)
	return t.aad[:]
}
