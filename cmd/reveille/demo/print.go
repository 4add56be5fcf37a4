package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// lineWidth is what the output keeps to.
const lineWidth = 100

// printer writes to a terminal or to anything else; colours go to terminals only.
type printer struct {
	mu      sync.Mutex // one line at a time
	out     io.Writer
	colours bool
}

func newPrinter(out io.Writer) *printer {
	p := &printer{out: out}
	if f, ok := out.(*os.File); ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" {
		info, err := f.Stat()
		p.colours = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

// Write takes the ladder's lines.
func (p *printer) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *printer) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

// ANSI attributes.
const (
	bold  = "1"
	dim   = "2"
	red   = "31"
	green = "32"
)

func (p *printer) paint(attribute, text string) string {
	if !p.colours {
		return text
	}
	return "\x1b[" + attribute + "m" + text + "\x1b[0m"
}

func (p *printer) intro(w *world) {
	p.line("%s", p.paint(bold, "Reveille: from an INVITE to a ringing phone, on this machine"))
	p.line("The bridge is the real one: SIP on %s (UDP) and %s (TCP).", w.udp, w.tcp)
	p.line("Carrier, push service (HTTP/2 over TLS) and phones are simulated, over real sockets.")
	p.line("Times are milliseconds since the INVITE.")
}

func (p *printer) title(place string, s scenario) {
	p.line("\n%s", p.paint(dim, strings.Repeat("─", lineWidth)))
	p.line("%s  %s", p.paint(bold, place+"  "+s.name), s.story)
	p.line("")
}

// outcome says what held, below the ladder.
func (p *printer) outcome(facts, faults []string) {
	p.line("")
	for _, f := range facts {
		p.line("  %s %s", p.paint(green, "✓"), f)
	}
	for _, f := range faults {
		p.line("  %s %s", p.paint(red, "✗"), f)
	}
}

// verdicts is the table at the end.
func (p *printer) verdicts(results []result) {
	held := 0
	p.line("\n%s", p.paint(dim, strings.Repeat("─", lineWidth)))
	p.line("%s", p.paint(bold, fmt.Sprintf("%-24s%-9s%7s  %s", "scenario", "verdict", "took", "what is proven")))
	for _, r := range results {
		verdict, seen := p.paint(green, fmt.Sprintf("%-9s", "held")), []string{r.proof}
		if len(r.faults) > 0 {
			verdict, seen = p.paint(red, fmt.Sprintf("%-9s", "FAILED")), r.faults
		} else {
			held++
		}
		took := fmt.Sprintf("%.1f s", r.took.Round(100*time.Millisecond).Seconds())
		p.line("%-24s%s%7s  %s", r.name, verdict, took, cut(strings.Join(seen, "; "), lineWidth-42))
	}
	summary := fmt.Sprintf("%d of %d scenarios held", held, len(results))
	if held == len(results) {
		p.line("\n%s", p.paint(green, summary))
		return
	}
	p.line("\n%s", p.paint(red, summary))
}

// cut shortens a text to n characters.
func cut(text string, n int) string {
	r := []rune(text)
	if len(r) <= n {
		return text
	}
	return string(r[:n-1]) + "…"
}
