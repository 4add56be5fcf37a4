package sip

// What only tests look at.

func (d *dialogTable) len() int {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return len(d.legs) + len(d.relics)
}

// pendingCount is the size of the table.
func (t *transactions) pendingCount() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.server) + len(t.client) + len(t.traces.byKey)
}

// ended: the transaction is not in the table any more.
func (s *serverTx) ended() bool { return s.t.find(s.key) == nil }
