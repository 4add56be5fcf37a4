package sip

import (
	"hash/maphash"
	"strconv"
	"strings"

	sipgo "github.com/emiago/sipgo/sip"
)

// txKey is a hash of what names a transaction: a parked call keeps 16 bytes
// instead of the strings. The seeds are this process's own, so that nobody can
// make two keys meet.
type txKey [2]uint64

type txSeeds [2]maphash.Seed

func (s txSeeds) key(parts ...string) (k txKey) {
	var buf [512]byte // on the stack; a longer key moves to the heap
	b := buf[:0]
	for _, part := range parts {
		b = append(append(b, part...), 0)
	}
	for i, seed := range s {
		k[i] = maphash.Bytes(seed, b)
	}
	return k
}

// server matches requests to transactions (RFC 3261 §17.2.3); for a branch
// without the magic cookie by the older rules.
func (s txSeeds) server(req *sipgo.Request, method sipgo.RequestMethod) txKey {
	via := req.Via()
	host, port := strings.ToLower(via.Host), strconv.Itoa(via.Port)
	branch, _ := via.Params.Get("branch")
	if strings.HasPrefix(branch, sipgo.RFC3261BranchMagicCookie) {
		return s.key(branch, host, port, string(method))
	}
	tag, _ := req.From().Params.Get("tag")
	return s.key("2543", req.Recipient.String(), string(*req.CallID()), tag,
		strconv.Itoa(int(req.CSeq().SeqNo)), host, port, branch, string(method))
}

// merge is what makes two requests the same one that took two paths (RFC 3261
// §8.2.2.2); the zero key for a request within a dialog.
func (s txSeeds) merge(req *sipgo.Request) txKey {
	if tag, _ := req.To().Params.Get("tag"); tag != "" {
		return txKey{}
	}
	tag, _ := req.From().Params.Get("tag")
	return s.key(string(*req.CallID()), tag, strconv.Itoa(int(req.CSeq().SeqNo)), string(req.Method))
}

// client matches responses to requests (RFC 3261 §17.1.3).
func (s txSeeds) client(branch string, method sipgo.RequestMethod) txKey {
	return s.key("client", branch, string(method))
}
