package sip

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

// frame is a WebSocket frame of a client's, with a mask of zeros.
func frame(opcode byte, text string) string {
	if len(text) < 126 {
		return string([]byte{0x80 | opcode, 0x80 | byte(len(text)), 0, 0, 0, 0}) + text
	}
	return string(binary.BigEndian.AppendUint16([]byte{0x80 | opcode, 0x80 | 126}, uint16(len(text)))) + "\x00\x00\x00\x00" + text
}

// TestIdleStreamsLoseNothing: over real sockets a stream is put to rest between
// messages; however they are cut into writes and records, each comes, in order.
func TestIdleStreamsLoseNothing(t *testing.T) {
	cert, pool := certificate(t)
	for _, scheme := range []string{"tcp", "tls", "ws", "wss"} {
		t.Run(scheme, func(t *testing.T) {
			b := newBed(t, SystemNetwork(), func(c *Config) { c.TLS = cert }, scheme+"://127.0.0.1:0")
			came := make(chan string, 2000)
			b.takes = func(_ *flow, req *sipgo.Request, _ *serverTx) { came <- string(*req.CallID()) }
			_, to, _ := strings.Cut(b.transport.addresses()[0], "://")
			conn, err := net.Dial("tcp", to)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if secure(scheme) {
				conn = tls.Client(conn, &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"})
			}
			go io.Copy(io.Discard, conn)
			web := strings.HasPrefix(scheme, "ws")
			chance := rand.New(rand.NewPCG(1, 2))
			var out strings.Builder
			if web {
				out.WriteString(upgradeHead + "Sec-WebSocket-Protocol: sip\r\n\r\n")
			}
			got, want := 0, 0
			for range 300 { // bursts of 0 to 3 messages, then a rest until they have come
				for range chance.IntN(4) {
					m := request("OPTIONS", fmt.Sprintf("Call-ID: %d", want), "X: "+strings.Repeat("x", chance.IntN(2000)),
						fmt.Sprintf("Via: SIP/2.0/TCP h;branch=z9hG4bK%d", want))
					if web {
						m = frame(1, m)
					}
					out.WriteString(m)
					want++
				}
				switch ping := "\r\n\r\n"; {
				case chance.IntN(3) > 0:
				case web:
					out.WriteString(frame(byte(1+8*chance.IntN(2)), ping)) // text, or a ping frame
				default:
					out.WriteString(ping)
				}
				writePieces(t, conn, out.String(), chance)
				out.Reset()
				for ; got < want; got++ {
					select {
					case id := <-came:
						if id != fmt.Sprint(got) {
							t.Fatalf("message %s in the place of %d", id, got)
						}
					case <-time.After(10 * time.Second):
						t.Fatalf("%d of %d messages came", got, want)
					}
				}
			}
		})
	}
}

// writePieces writes text in pieces of random length; over TLS each is a record.
func writePieces(t *testing.T, w io.Writer, text string, chance *rand.Rand) {
	t.Helper()
	for len(text) > 0 {
		n := min(len(text), 1+chance.IntN(1500))
		if chance.IntN(3) == 0 {
			n = min(n, 5)
		}
		if _, err := io.WriteString(w, text[:n]); err != nil {
			t.Fatal(err)
		}
		text = text[n:]
	}
}
