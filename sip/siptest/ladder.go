package siptest

import (
	"bytes"
	"fmt"
	"io"
	"sort"
	"strings"
	"sync"
	"time"
)

// Bridge is the name of the bridge's column in a Ladder.
const Bridge = "reveille"

// Ladder collects the messages of a call, from all who took part, and draws
// them as a diagram. It holds no Call-IDs, tags or branches, so in virtual time
// the same call always gives the same text. A nil *Ladder collects nothing.
type Ladder struct {
	mu      sync.Mutex // guards the following
	columns []string
	rungs   []rung
	start   time.Time // of the first rung
	live    io.Writer // gets each rung as it comes
	width   int       // of live lines; longer details get a line of their own
}

// rung is one arrow, or a note if from and to are the same.
type rung struct {
	at           time.Time
	from, to     string
	text, detail string
	order        int // as recorded, within one moment and one column
}

// NewLadder makes a ladder with these columns, left to right; one of them
// should be Bridge.
func NewLadder(columns ...string) *Ladder { return &Ladder{columns: columns} }

// Live also draws each rung on w as it comes, in lines of up to width columns;
// the head comes now. A nil w ends that.
func (l *Ladder) Live(w io.Writer, width int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.live, l.width = w, width
	if w != nil {
		fmt.Fprintln(w, l.head())
	}
}

// Arrow records a message between two columns; detail stands at the margin.
func (l *Ladder) Arrow(at time.Time, from, to, text, detail string) {
	l.add(rung{at: at, from: from, to: to, text: text, detail: detail})
}

// Note records something that a participant did.
func (l *Ladder) Note(at time.Time, who, text string) {
	l.add(rung{at: at, from: who, to: who, text: text})
}

func (l *Ladder) add(r rung) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.column(r.from) < 0 || l.column(r.to) < 0 {
		return
	}
	if len(l.rungs) == 0 {
		l.start = r.at
	}
	r.order = len(l.rungs)
	l.rungs = append(l.rungs, r)
	if l.live != nil {
		fmt.Fprintln(l.live, l.fold(l.draw(r)))
	}
}

// fold moves the detail of a line that is too long to the line below.
func (l *Ladder) fold(line string) string {
	margin := l.x(len(l.columns)-1) + 1
	if len(line) <= l.width || len(line) <= margin {
		return line
	}
	detail := strings.TrimSpace(line[margin:])
	return line[:margin] + "\n" + strings.Repeat(" ", max(l.width-len(detail), 0)) + detail
}

// sent and received record a SIP message where a peer sees it.
func (l *Ladder) sent(who string, m *Message)     { l.message(who, Bridge, m) }
func (l *Ladder) received(who string, m *Message) { l.message(Bridge, who, m) }

func (l *Ladder) message(from, to string, m *Message) {
	if l != nil {
		l.Arrow(time.Now(), from, to, labelOf(m), detailOf(m))
	}
}

// labelOf names a message in a few letters: "INVITE +SDP", "180", "200 BYE".
func labelOf(m *Message) string {
	label := m.Method()
	if m.IsResponse() {
		label = fmt.Sprint(m.Code())
		if m.Method() != "INVITE" {
			label += " " + m.Method()
		}
	}
	if m.Body != nil && strings.HasPrefix(m.Get("Content-Type"), "application/sdp") {
		label += " +SDP"
	}
	return label
}

// detailOf is what a reader of the ladder should know of a message besides.
func detailOf(m *Message) string {
	var out []string
	if r := m.All("Reason"); len(r) > 0 {
		out = append(out, strings.Join(r, ", "))
	}
	if p := m.Get("X-Reveille-Push"); p != "" {
		out = append(out, "push "+p)
	}
	if r := m.Get("Retry-After"); r != "" {
		out = append(out, "retry after "+r+" s")
	}
	for _, held := range []string{"sendonly", "recvonly", "inactive"} {
		if bytes.Contains(m.Body, []byte("a="+held+"\r\n")) {
			out = append(out, held)
		}
	}
	if s := m.Get("Session-Expires"); s != "" {
		out = append(out, "session expires "+s)
	}
	if m.Code()/100 == 3 {
		out = append(out, "to "+m.uri("Contact"))
	}
	if !m.IsResponse() {
		out = append(out, askedOf(m)...)
	}
	if m.Method() == "REGISTER" && m.Get("Authorization") != "" {
		out = append(out, "with credentials")
	}
	return strings.Join(out, "; ")
}

// String draws the whole ladder in the order of time. What happened in one
// moment is ordered by column, then as recorded.
func (l *Ladder) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	rungs := append([]rung(nil), l.rungs...)
	sort.SliceStable(rungs, func(i, j int) bool {
		a, b := rungs[i], rungs[j]
		if ta, tb := l.millis(a), l.millis(b); ta != tb {
			return ta < tb
		}
		if ca, cb := l.far(a), l.far(b); ca != cb {
			return ca < cb
		}
		return a.order < b.order
	})
	var b strings.Builder
	b.WriteString(l.head() + "\n")
	for _, r := range rungs {
		b.WriteString(l.draw(r) + "\n")
	}
	return b.String()
}

// far is the column of the participant that is not the bridge.
func (l *Ladder) far(r rung) int {
	if r.from == Bridge {
		return l.column(r.to)
	}
	return l.column(r.from)
}

func (l *Ladder) millis(r rung) int64 {
	return r.at.Sub(l.start).Round(time.Millisecond).Milliseconds()
}

func (l *Ladder) column(name string) int {
	for i, c := range l.columns {
		if c == name {
			return i
		}
	}
	return -1
}

const (
	ladderLeft = 12 // where the first lifeline stands: "%7d ms" and a gap
	ladderGap  = 18 // between lifelines: room for "200 REGISTER" in an arrow
)

func (l *Ladder) gap() int {
	if len(l.columns) > 4 { // keeps five columns within 80
		return ladderGap - 2
	}
	return ladderGap
}

func (l *Ladder) x(column int) int { return ladderLeft + column*l.gap() }

func (l *Ladder) head() string {
	line := []rune(strings.Repeat(" ", l.x(len(l.columns)-1)+ladderGap))
	for i, name := range l.columns {
		copy(line[max(l.x(i)-len(name)/2, 0):], []rune(name))
	}
	return strings.TrimRight(string(line), " ")
}

func (l *Ladder) draw(r rung) string {
	line := []byte(strings.Repeat(" ", l.x(len(l.columns)-1)+1))
	copy(line, fmt.Sprintf("%7d", l.millis(r)))
	for i := range l.columns {
		line[l.x(i)] = '|'
	}
	from, to := l.column(r.from), l.column(r.to)
	detail := r.detail
	if from == to {
		line[l.x(from)] = '*'
		detail = strings.TrimSpace(r.from + " " + r.text)
	} else {
		arrow(line, l.x(from), l.x(to), r.text)
	}
	if detail == "" {
		return strings.TrimRight(string(line), " ")
	}
	return string(line) + "  " + detail
}

// arrow draws from x to y with the text in its middle: |-- INVITE -->|
func arrow(line []byte, x, y int, text string) {
	lo, hi := min(x, y)+1, max(x, y)-1
	for i := lo; i <= hi; i++ {
		line[i] = '-'
	}
	if x < y {
		line[hi] = '>'
	} else {
		line[lo] = '<'
	}
	text = " " + text + " "
	room := hi - lo - 1
	if len(text) > room {
		text = text[:room]
	}
	copy(line[lo+1+(room-len(text))/2:], text)
}

// Reset forgets what was recorded: the ladder begins with the next arrow.
func (l *Ladder) Reset() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rungs = nil
}
