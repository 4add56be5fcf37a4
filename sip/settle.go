package sip

import (
	"slices"
	"time"
)

// settle waits until all that was sent last has arrived: each request has its
// final answer, each refusal its ACK. It does not wait longer than d.
func (t *transactions) settle(d time.Duration) {
	const look = 20 * time.Millisecond // a round trip in one network is shorter
	for end := time.Now().Add(d); t.unsettled() && time.Now().Before(end); {
		time.Sleep(look)
	}
}

func (t *transactions) unsettled() bool {
	t.mu.Lock()
	server := make([]*serverTx, 0, len(t.server))
	for _, s := range t.server {
		server = append(server, s)
	}
	waits := false
	for _, c := range t.client {
		waits = waits || c.final.Load() == 0
	}
	t.mu.Unlock()
	return waits || slices.ContainsFunc(server, (*serverTx).wantsAck)
}

// wantsAck: a refusal of an INVITE that is sent again until its ACK comes.
func (s *serverTx) wantsAck() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.req.IsInvite() && s.final >= 300 && !s.acked && !s.dropped && !s.f.reliable()
}
