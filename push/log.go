package push

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/google/uuid"
)

const logName = "log"

// logProvider stands in while nothing is configured: it prints each push and
// calls it sent, so that a first INVITE shows what would have woken the phone.
type logProvider struct {
	layout *layout
	mu     sync.Mutex // keeps the lines whole
	w      io.Writer
}

func newLogProvider(w io.Writer) (*logProvider, error) {
	l, err := newLayout(PayloadConfig{}, formVoIP)
	return &logProvider{layout: l, w: w}, err
}

func (l *logProvider) Name() string       { return logName }
func (l *logProvider) Serves(string) bool { return true }

// Push prints the payload, without the token.
func (l *logProvider) Push(_ context.Context, t Target, m Message) (Outcome, bool) {
	body, shortened, err := l.layout.build(m, t)
	if err != nil {
		return Outcome{Verdict: Refused, Alarm: true, Reason: "Payload", Err: err}, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err = fmt.Fprintf(l.w, "push (no provider configured) %s %s %s\n", clean(t.Provider, 32), clean(t.Param, maxParam), body)
	if err != nil {
		return Outcome{Verdict: Failed, Attempts: 1, Reason: "Print", Err: fmt.Errorf("printing the push: %w", err)}, false
	}
	return Outcome{Verdict: Sent, Attempts: 1, ID: uuid.NewString(), Shortened: shortened}, false
}
