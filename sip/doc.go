// Package sip is the SIP user agent of the bridge: the registrar that phones
// register with, the trunks that send calls, and one leg for each dialog.
//
// It implements the parts of these documents that a push bridge needs:
//
//	RFC 3261  SIP: transactions, dialogs, registrar
//	RFC 3262  reliable provisionals towards trunks, which ask for them
//	RFC 3311  UPDATE, with an offer or as a refresh
//	RFC 3264  offer/answer: the bodies travel through, package rtp reads them
//	RFC 3325  P-Asserted-Identity from trunks; RFC 3323 Privacy
//	RFC 5806, RFC 7044, RFC 4458  who diverted a call, of Diversion or History-Info
//	RFC 8224  the verification of the caller's number, as verstat (3GPP TS 24.229) from trunks that are believed
//	RFC 3326, RFC 6432, RFC 3398  Reason; SIP and Q.850 causes, mapped both ways
//	RFC 2976, RFC 6086, RFC 3428 §7  INFO and MESSAGE within a call; RFC 4320 for their answers, RFC 5057 for what those end
//	RFC 3515, RFC 4488, RFC 5589  REFER from devices, blind and attended; NOTIFY with RFC 3420 bodies
//	RFC 3891  Replaces from devices
//	RFC 4028  session timers: with trunks in both roles, with devices that ask
//	RFC 3581  symmetric response routing (rport)
//	RFC 5626  flows: a request to a device leaves by the connection of its REGISTER
//	RFC 4320  no 408 to requests other than INVITE
//	RFC 4475, RFC 5118  what malformed and odd messages get
//	RFC 6026  2xx handling in INVITE transactions
//	RFC 7118  SIP over WebSocket, with an Origin check (RFC 6455)
//	RFC 7332  a call has one hop less on its way to a device
//	RFC 7616, RFC 8760  digest authentication with SHA-256 and MD5
//	RFC 8599  push: pn-provider, pn-param, pn-prid, Feature-Caps, 555
//
// Terms: a trunk sends us INVITEs; an extension is an address-of-record with
// devices; a binding is a Contact on a flow; a leg is one dialog of a call:
// Inbound (we are the UAS, towards the trunk) or Outbound (we are the UAC,
// towards a device).
//
//	trunk                 bridge                         device
//	  |--INVITE------------>|                               |
//	  |<-----100, 180-------|      (push wakes the device)  |
//	  |                     |<-----------------REGISTER-----|
//	  |                     |------200--------------------->|
//	  |                     |------INVITE (same flow)------>|
//	  |                     |<---------------------180, 200-|
//	  |<-----200------------|------ACK--------------------->|
//	  |--ACK--------------->|                               |
//
// Every message is handled in the order it came off its socket: the reader of
// a flow feeds transactions, transactions feed legs, and none of them blocks.
package sip
