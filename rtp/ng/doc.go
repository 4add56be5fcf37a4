// Package ng speaks with rtpengine daemons by their NG protocol: a cookie, a space and a bencoded dictionary in each
// datagram. A request is sent again with the same cookie until its answer comes, and the daemon, which keeps its answers for
// a while, does a repeated one only once.
//
// A [Client] is for one daemon; a [Pool] is for several: it pings each, gives a call to one that answers, and says which are
// well. What the commands mean for a call is not known here.
package ng
