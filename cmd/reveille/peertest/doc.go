// Package peertest holds the bridge against programs that other people wrote: SIPp as the carrier, baresip as the
// phone and Kamailio as the PBX, all from Debian's packages, each a process of its own on loopback addresses.
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
// with x and y of each run's own, so that several can run on one machine. A phone that changes networks is in a network namespace of its own, linked to another for the
// rest: see TestPhoneChangesNetworks.
package peertest
