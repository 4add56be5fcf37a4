// Package rtp relays the sound of calls between a trunk and a device, and plays the ringback tone until the device
// answers.
//
//	RFC 3550  RTP and RTCP; statistics by appendix A.1, A.3 and A.8
//	RFC 3551  payload types
//	RFC 3611  RTCP-XR: VoIP metrics and round trips, read
//	RFC 3264  offer/answer (package rtp/sdp)
//	RFC 4733  telephone-event, relayed, and made of digits that came by SIP INFO
//	RFC 3711  SRTP, keys from the description (RFC 4568)
//	RFC 7714  SRTP with AES-GCM
//	RFC 5763  DTLS-SRTP; RFC 5764 the keys, RFC 8842 its offers and answers
//	RFC 8445  ICE, as a lite agent (§2.5); RFC 7675 consent
//	RFC 5761  RTP and RTCP on one port, where a side agrees to it
//	RFC 4961  symmetric RTP: we send from the port that we receive on
//
// A [Session] is the media of one call. It has two sides, [Trunk] and [Device], each with an even port for RTP and the
// odd one above it for RTCP. Packets go socket → forward → socket, untouched but for the payload type number where the
// two descriptions use different ones; they are never re-timed or held back. The owner of the call learns only of the
// first packet of a side, of a side that stays silent, and of a call gone idle.
//
// # Digits
//
// Telephone-events pass like sound. Where one side knows them and the other takes its digits by SIP INFO, Dial plays a
// digit to the one, and Digits tells what that one has typed. A digit is played into the stream that the listener has
// anyway: packet for packet it stands in for the speech, so that sequence numbers need no change then or later, which
// with SRTP and in the kernel they could not have. Only where there is no stream (silence suppression, a muted phone,
// hold) has it one of its own, and where that stops within the digit, for the end of it.
//
// # Quality
//
// Each direction has the statistics of RFC 3550, and a score by the E-model of ITU-T G.107 for what came to us. What a
// peer reports by RTCP tells of the rest of the way: loss, jitter, round trip, and so a score for what it hears. Where a
// peer sends no RTCP, the other one gets reports of ours in its place. Scores take loss as random, the delay as half of
// the round trips that are known with 20 ms for packets and a jitter buffer of twice the jitter, and the codecs as G.113
// appendix I has them.
//
// Video is a second such stream beside the audio. It is offered to the one side as the other has it, and given up without
// harm to the call: an answer that could not wait for the device is taken back by a re-INVITE.
//
// # SRTP
//
// Each side may have SRTP, with keys of its own: packets are decrypted as they come and encrypted as they go, so that
// any side can talk to any other. Keys come and go in a=crypto, by signalling that nobody else can read only
// (RFC 4568 §7). An offer of ours with "optional" is RTP/AVP with keys (RFC 8643): a phone that cannot encrypt passes
// over them, at no risk to the call. A phone that refuses that with 488 insists on RTP/SAVP, and may be offered it
// (OfferEncrypted). Our key is new for each leg and whenever the peer brings a new one; it stays through refreshes and
// holds, as a change would cut the sound, and as peers do not agree on what becomes of the rollover counter then.
//
// # DTLS-SRTP and ICE
//
// A side may get its keys by a DTLS handshake in place of a=crypto, as WebRTC phones do: then nothing passes before it is
// done. The side has an agent, to which STUN and DTLS go by their first byte. A handshake has a goroutine of its own and
// leaves nothing but keys and two packets. With ICE the agent answers the peer's checks, which need the password of the
// description, and who is nominated by them is the peer: there is no latch then. Without ICE the address that the peer's
// handshake came from is latched at once.
//
// # Sockets
//
// On Linux a few workers own all sockets of a relay, elsewhere each socket has a goroutine. A worker relays a packet at
// once while few come, and looks after all that have come every half a millisecond while many do, which halves what a
// packet costs; one that falls behind takes several of a socket at once. Sockets are not connected to their peers: what
// strangers send comes to be counted, and no ICMP error stops a stream. Who sends steadily gets a second one, which is.
//
// # Whom a side believes
//
// An open port that sends to whoever sent last hands calls to strangers. So a side sends to the address in the peer's
// description until it has latched, takes packets from there only, and latches onto another source (a peer behind NAT)
// after four consecutive packets of one SSRC with an agreed payload type, within five seconds of the first. From
// competing sources it takes the described address before its neighbours (/24, /64) before all others. Then it stays:
// it latches again only after a re-INVITE, when told that the peer has moved, or after 20 s of silence; then onto the same
// host alone while that goes on to send RTCP, as a muted phone does. Where the peer's SIP comes from is known
// too, unless by a proxy: what is near that counts as a neighbour, and all others as strangers. All else is counted and
// dropped.
//
// # rtpengine
//
// With media.engine: rtpengine a daemon has the packets in place of our sockets, see remote and package rtp/ng. A Session
// goes on with its own offers and answers, codecs and directions, and tells the daemon what the sides say; the addresses
// and keys in our descriptions are the daemon's then.
package rtp
