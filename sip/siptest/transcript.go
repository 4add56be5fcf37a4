package siptest

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// Transcript is all that a peer has received in one matter, in order.
type Transcript struct {
	mu   sync.Mutex // guards the following
	all  []*Message
	more chan struct{} // closed and renewed when a message comes
}

func newTranscript() *Transcript { return &Transcript{more: make(chan struct{})} }

func (b *Transcript) put(m *Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all = append(b.all, m)
	close(b.more)
	b.more = make(chan struct{})
}

// Got lists what has come so far: what is a method ("BYE"), a status ("180"),
// a class ("2xx"), "final" for any final answer, or "" for everything.
func (b *Transcript) Got(what string) []*Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.matching(what)
}

func (b *Transcript) matching(what string) (found []*Message) {
	for _, m := range b.all {
		if is(m, what) {
			found = append(found, m)
		}
	}
	return found
}

// Await waits until the first such message is there, which it may be already.
// The error tells what came instead.
func (b *Transcript) Await(d time.Duration, what string) (*Message, error) {
	return b.AwaitCount(d, what, 1)
}

// AwaitCount waits for the nth such message.
func (b *Transcript) AwaitCount(d time.Duration, what string, n int) (*Message, error) {
	late := time.NewTimer(d)
	defer late.Stop()
	for {
		b.mu.Lock()
		found, more := b.matching(what), b.more
		b.mu.Unlock()
		if len(found) >= n {
			return found[n-1], nil
		}
		select {
		case <-more:
		case <-late.C:
			return nil, fmt.Errorf("no %s (number %d) within %v; there came: %s", what, n, d, b.summary())
		}
	}
}

func (b *Transcript) summary() string {
	var labels []string
	for _, m := range b.Got("") {
		labels = append(labels, labelOf(m))
	}
	if labels == nil {
		return "nothing"
	}
	return strings.Join(labels, ", ")
}

func is(m *Message, what string) bool {
	code := m.Code()
	switch {
	case what == "":
		return true
	case what == "final":
		return code >= 200
	case strings.HasSuffix(what, "xx"):
		return code > 0 && fmt.Sprint(code/100) == what[:1]
	case code > 0:
		return fmt.Sprint(code) == what
	}
	return m.Method() == what
}
