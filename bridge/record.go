package bridge

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"reveille/rtp"
	"reveille/sip"
)

// Step is one line of a call's timeline.
type Step struct {
	At     time.Time `json:"at"`
	Millis float64   `json:"ms"` // since the INVITE
	Event  string    `json:"event"`
	Device string    `json:"device,omitempty"`
	Detail string    `json:"detail,omitempty"`
}

// Record is a call on record: what the API shows while it lives, and the CDR
// (one JSON line) when it is over.
type Record struct {
	Call      string                 `json:"uuid"`
	Trunk     string                 `json:"trunk"`
	State     string                 `json:"state"`
	From      string                 `json:"from"`
	FromName  string                 `json:"from_name,omitempty"`
	Withheld  bool                   `json:"withheld,omitempty"` // the caller asked for privacy: From is for the operator alone
	Verstat   string                 `json:"verstat,omitempty"`
	Diverted  string                 `json:"diverted_by,omitempty"`
	To        string                 `json:"to"`
	Extension string                 `json:"extension,omitempty"`
	Device    string                 `json:"device,omitempty"` // the one that answered
	Start     time.Time              `json:"start"`
	Answer    time.Time              `json:"answer,omitzero"`
	End       time.Time              `json:"end,omitzero"`
	Seconds   float64                `json:"seconds"` // answered time
	Ending    string                 `json:"ending,omitempty"`
	Code      int                    `json:"code,omitempty"`
	Q850      int                    `json:"q850,omitempty"` // cause of the end (ITU-T Q.850)
	Verdict   string                 `json:"verdict,omitempty"`
	WakeMS    float64                `json:"wake_ms,omitempty"`       // push sent -> first REGISTER
	RingMS    float64                `json:"ring_delay_ms,omitempty"` // INVITE -> first device 180
	Pushes    []PushRecord           `json:"pushes,omitempty"`
	Media     map[string]MediaRecord `json:"media,omitempty"`
	Timeline  []Step                 `json:"timeline"`
}

// maxSteps bounds a timeline, and the pushes of a call: a phone that registers, or
// tries to transfer, for ever must not grow them.
const maxSteps = 200

// record is a Record under a lock: the call writes, the API reads.
type record struct {
	mu    sync.Mutex // guards the following
	r     Record
	audio *rtp.Session // of a call that is up: its figures are in each snapshot
}

// newRecord begins with what the INVITE said.
func newRecord(id string, in *sip.Inbound, to string, at time.Time) *record {
	caller := in.Caller()
	r := &record{r: Record{Call: id, Trunk: in.Trunk().Name(), From: caller.Handle, FromName: caller.Name, To: to, Start: at,
		Withheld: caller.Anonymous, Diverted: caller.DivertedBy}}
	if caller.Anonymous {
		r.r.From = caller.Withheld
	}
	if caller.Verstat != sip.VerstatNone {
		r.r.Verstat = caller.Verstat
	}
	return r
}

func (r *record) update(f func(*Record)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.r)
}

// hears has the snapshots show the figures of a session; nil: no more.
func (r *record) hears(audio *rtp.Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.audio = audio
}

// answered is when the call was; zero if it was not.
func (r *record) answered() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.r.Answer
}

// push notes what became of a push.
func (r *record) push(p PushRecord) {
	r.update(func(rec *Record) {
		if len(rec.Pushes) < maxSteps {
			rec.Pushes = append(rec.Pushes, p)
		}
	})
}

// step notes what happens. The end has room in any timeline.
func (r *record) step(event, device, detail string) { r.stepAt(time.Now(), event, device, detail) }

// stepAt notes what has happened a while ago, in its place.
func (r *record) stepAt(at time.Time, event, device, detail string) {
	r.update(func(rec *Record) {
		if len(rec.Timeline) >= maxSteps && event != "over" {
			return
		}
		i := len(rec.Timeline)
		for i > 0 && rec.Timeline[i-1].At.After(at) {
			i--
		}
		rec.Timeline = slices.Insert(rec.Timeline, i, Step{At: at, Millis: millis(at.Sub(rec.Start)), Event: event, Device: device, Detail: detail})
	})
}

// snapshot is a copy that the caller may keep.
func (r *record) snapshot() Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.r
	c.Timeline = append([]Step(nil), c.Timeline...)
	c.Pushes = append([]PushRecord(nil), c.Pushes...)
	if r.audio != nil && !c.Answer.IsZero() {
		c.Media = mediaRecords(r.audio.Stats(), c.Answer)
	}
	return c
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// CDRWriter appends one JSON line a call to a file. It opens the file for each
// line, so that a rotated file is followed.
type CDRWriter struct {
	path string
	log  *slog.Logger
	mu   sync.Mutex // one line at a time
}

// NewCDRWriter checks that the file can be written; "" writes nothing.
func NewCDRWriter(path string, log *slog.Logger) (*CDRWriter, error) {
	w := &CDRWriter{path: path, log: log}
	if path == "" {
		return w, nil
	}
	f, err := w.open()
	if err != nil {
		return nil, fmt.Errorf("telemetry.cdr: %w; make the directory, or name another file", err)
	}
	return w, f.Close()
}

func (w *CDRWriter) open() (io.WriteCloser, error) {
	return os.OpenFile(w.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
}

// Write appends the record. A failure is logged with the record, so that
// nothing is lost.
func (w *CDRWriter) Write(r Record) {
	if w == nil || w.path == "" {
		return
	}
	line, err := json.Marshal(r)
	if err == nil {
		err = w.append(append(line, '\n'))
	}
	if err != nil {
		w.log.Error("the CDR could not be written; it stands here instead", "call", r.Call, "err", err, "cdr", string(line))
	}
}

func (w *CDRWriter) append(line []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	f, err := w.open()
	if err != nil {
		return err
	}
	_, err = f.Write(line)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
