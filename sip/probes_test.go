package sip

// What only tests look at.

func (d *dialogTable) len() int {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return len(d.legs)
}

// pendingCount is the size of the table.
func (t *transactions) pendingCount() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.server) + len(t.client)
}

// done is closed when the transaction has ended: some time after its final
// answer, or with its flow.
func (s *serverTx) done() <-chan struct{} { return s.fsm.Done() }
