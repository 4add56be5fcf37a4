package rtp

import "encoding/binary"

// Packet types of RTCP (RFC 3550 §12.1), and the version in the first octet of each packet.
const (
	senderReportType   = 200
	receiverReportType = 201
	descriptionType    = 202
	goodbyeType        = 203

	rtcpVersion = 2 << 6
	cnameItem   = 1
)

// senderInfo is what a sender report says of a stream (RFC 3550 §6.4.1).
type senderInfo struct {
	ntp                        uint64
	timestamp, packets, octets uint32
}

// reportBlock is what a report says of a stream that has come (RFC 3550 §6.4.1).
type reportBlock struct {
	ssrc     uint32
	fraction uint8  // lost of those since the last report, in 1/256
	lost     uint32 // of all, below 2^23
	highest  uint32 // extended sequence number
	jitter   uint32 // in units of the stream's clock
	last     uint32 // middle 32 bits of the time in the last sender report; 0: there was none
	delay    uint32 // since that one, in 1/65536 s
}

// appendReport appends a sender report, or a receiver report where info is nil, with one block or none. Thousands of
// calls make hundreds of reports a second: so these are written where they are sent from.
func appendReport(b []byte, ssrc uint32, info *senderInfo, block reportBlock, some bool) []byte {
	kind, words, count := byte(receiverReportType), 1, byte(0)
	if info != nil {
		kind, words = senderReportType, words+5
	}
	if some {
		words, count = words+6, 1
	}
	b = append(b, rtcpVersion|count, kind, 0, byte(words))
	b = binary.BigEndian.AppendUint32(b, ssrc)
	if info != nil {
		b = binary.BigEndian.AppendUint64(b, info.ntp)
		b = binary.BigEndian.AppendUint32(b, info.timestamp)
		b = binary.BigEndian.AppendUint32(b, info.packets)
		b = binary.BigEndian.AppendUint32(b, info.octets)
	}
	if !some {
		return b
	}
	for _, v := range [...]uint32{
		block.ssrc, uint32(block.fraction)<<24 | block.lost, block.highest, block.jitter, block.last, block.delay,
	} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

// appendCNAME appends a source description (RFC 3550 §6.5): one chunk with the CNAME, below 256 octets, and the null
// octets that end it, up to the next word.
func appendCNAME(b []byte, ssrc uint32, cname string) []byte {
	words := 1 + (2+len(cname))/4 + 1
	end := len(b) + 4 + 4*words
	b = append(b, rtcpVersion|1, descriptionType, 0, byte(words))
	b = binary.BigEndian.AppendUint32(b, ssrc)
	b = append(append(b, cnameItem, byte(len(cname))), cname...)
	for len(b) < end {
		b = append(b, 0)
	}
	return b
}

// appendGoodbye appends the end of a source (RFC 3550 §6.6).
func appendGoodbye(b []byte, ssrc uint32) []byte {
	return binary.BigEndian.AppendUint32(append(b, rtcpVersion|1, goodbyeType, 0, 1), ssrc)
}
