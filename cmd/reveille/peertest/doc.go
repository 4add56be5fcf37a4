// Package peertest holds the bridge against programs that other people wrote: SIPp as the carrier, baresip as the
// phone, Chromium as a phone in a web page, and Kamailio as the PBX, all from Debian's packages, each a process of
// its own on loopback addresses.
//
// There is no code in it but tests. They build `reveille`, start it with a configuration file as an administrator
// would, and look at it only from outside: at its exit code and at what the peers saw and recorded. The tests named
// TestPeers… leave the bridge out and prove the peers and the audio comparison themselves, so that a failure of the
// others is the bridge's.
//
// Everyone has a loopback address of their own, so that a captured packet tells who sent it:
//
//	127.x.y.1  the bridge
//	127.x.y.2  the carrier (SIPp)
//	127.x.y.3  the phone (baresip, or SIPp)
//	127.x.y.4  the PBX (Kamailio)
//
// with x and y of each run's own, so that several can run on one machine. What is about networks is in network
// namespaces: the test runs itself once more in one of its own, which has the bridge, and makes others for the phones,
// the NATs before them and strangers; see inOwnNetwork and newHome. They hold processes of the test's own, which speak
// SIP and RTP by package siptest, and know of each packet what it should hold.
//
// The phone in a browser is the page of folder webphone, with the script of docs/webrtc.md, in headless Chromium.
package peertest
