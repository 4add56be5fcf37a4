package peertest

import (
	"crypto/sha256"
	"crypto/x509"
	"embed"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

//go:embed webphone
var webphone embed.FS

// webPhone is the phone of docs/webrtc.md in a page, in headless Chromium. Nothing drives the browser: the page takes
// orders from our web server and tells it what happens.
type webPhone struct {
	server *httptest.Server
	orders chan any

	mu     sync.Mutex // guards the following
	events []webEvent
	read   int                   // of events
	frames map[string][]webFrame // "sent" and "received", between the codec and the packets
	latest chan struct{}         // closed when another page takes the orders
	more   chan struct{}         // closed and replaced with each event
}

// webEvent is what the page has told; see page.js.
type webEvent struct{ Event, UUID, From, Name, Why, Who, SDP string }

// webFrame is the payload of a packet of sound. A frame to be sent has no number yet.
type webFrame struct {
	Side string
	Seq  uint16
	Time uint32
	Type uint8
	Data []byte
}

// newWebPhone opens the page; its microphone hears the audio.
func newWebPhone(t testing.TB, ca authority, audio []byte) *webPhone {
	t.Helper()
	w := &webPhone{orders: make(chan any, 8), frames: map[string][]webFrame{}, more: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders", w.serveOrders)
	mux.HandleFunc("POST /events", w.takeEvent)
	mux.HandleFunc("POST /frames", w.takeFrames)
	script := docScript(t)
	mux.HandleFunc("GET /phone.js", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/javascript")
		rw.Write(script)
	})
	mux.HandleFunc("GET /", func(rw http.ResponseWriter, r *http.Request) {
		http.ServeFileFS(rw, r, webphone, "webphone"+r.URL.Path)
	})
	w.server = httptest.NewServer(mux)
	t.Cleanup(w.server.Close)
	dir := t.TempDir()
	sound := filepath.Join(dir, "microphone.wav")
	must(t, writeWAV(sound, samples(audio)))
	start(t, "chromium", dir, program(t, "chromium"), append(chromiumFlags,
		"--user-data-dir="+filepath.Join(dir, "profile"), "--use-file-for-fake-audio-capture="+sound,
		"--ignore-certificate-errors-spki-list="+pin(t, ca), w.server.URL+"/page.html")...)
	w.awaitWithin(t, "loaded", 3*patience) // a browser starts slowly
	return w
}

// chromiumFlags: no window, no sandbox (tests run as root), no word to anybody outside, a microphone from a file that
// nobody has to allow, and WebRTC on loopback addresses, which it leaves out otherwise.
var chromiumFlags = []string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
	"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--log-level=3", "--mute-audio", "--autoplay-policy=no-user-gesture-required",
	"--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--allow-loopback-in-peer-connection"}

// pin is the hash by which Chromium trusts the bridge's certificate, whose authority it does not know.
func pin(t testing.TB, ca authority) string {
	t.Helper()
	text, err := os.ReadFile(ca.CertFile)
	must(t, err)
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	hash := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(hash[:])
}

// docScript is the phone that docs/webrtc.md shows.
func docScript(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile("../../../docs/webrtc.md")
	must(t, err)
	m := regexp.MustCompile("(?s)```js\n(.*?)```").FindSubmatch(text)
	if m == nil {
		t.Fatal("docs/webrtc.md has no script")
	}
	return m[1]
}

// serveOrders sends the page its orders as they are given (server-sent events), until it goes away or is loaded anew.
func (w *webPhone) serveOrders(rw http.ResponseWriter, r *http.Request) {
	outdated := make(chan struct{})
	w.mu.Lock()
	if w.latest != nil {
		close(w.latest)
	}
	w.latest = outdated
	w.mu.Unlock()
	rw.Header().Set("Content-Type", "text/event-stream")
	rw.(http.Flusher).Flush()
	for {
		select {
		case order := <-w.orders:
			text, _ := json.Marshal(order)
			fmt.Fprintf(rw, "data: %s\n\n", text)
			rw.(http.Flusher).Flush()
		case <-outdated:
			return
		case <-r.Context().Done():
			return
		}
	}
}

func (w *webPhone) takeEvent(_ http.ResponseWriter, r *http.Request) {
	var e webEvent
	if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
		e = webEvent{Event: "error", Why: err.Error()}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
	close(w.more)
	w.more = make(chan struct{})
}

func (w *webPhone) takeFrames(_ http.ResponseWriter, r *http.Request) {
	var frames []webFrame
	if json.NewDecoder(r.Body).Decode(&frames) != nil {
		return // the page is being left
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range frames {
		w.frames[f.Side] = append(w.frames[f.Side], f)
	}
}

// got returns the frames of a side so far.
func (w *webPhone) got(side string) []webFrame {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]webFrame(nil), w.frames[side]...)
}

// order has the page do something; more is what it needs to know for that.
func (w *webPhone) order(do string, more map[string]any) {
	order := map[string]any{"do": do}
	for k, v := range more {
		order[k] = v
	}
	w.orders <- order
}

// await returns the next event of that name; those before it are done with. An error of the page ends the test.
func (w *webPhone) await(t testing.TB, name string) webEvent {
	t.Helper()
	return w.awaitWithin(t, name, patience)
}

func (w *webPhone) awaitWithin(t testing.TB, name string, within time.Duration) webEvent {
	t.Helper()
	deadline := time.After(within)
	for {
		e, more, ok := w.next()
		switch {
		case ok && e.Event == name:
			return e
		case ok && (e.Event == "error" || e.Event == "refused"):
			t.Fatalf("the page: %s; it has told %s", e.Why, w.told())
		case ok:
			continue
		}
		select {
		case <-more:
		case <-deadline:
			t.Fatalf("the page did not tell %q within %v; it has told %s", name, within, w.told())
		}
	}
}

func (w *webPhone) next() (webEvent, <-chan struct{}, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.read == len(w.events) {
		return webEvent{}, w.more, false
	}
	w.read++
	return w.events[w.read-1], nil, true
}

// told is all that the page has told, for a person to read.
func (w *webPhone) told() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for _, e := range w.events {
		all = append(all, strings.TrimSpace(fmt.Sprintf("%s %s%s %s", e.Event, e.Why, e.Who, e.SDP)))
	}
	return strings.Join(all, "\n")
}
