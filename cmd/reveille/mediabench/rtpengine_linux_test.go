package mediabench

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"time"
)

const ngAddress = "127.0.0.1:2223"

// rtpengine is Debian's in a process of its own, and our side of its NG protocol.
type rtpengine struct {
	*child
	ng     net.Conn
	cookie int
	suite  string
}

func findRtpengine() (string, error) {
	for _, name := range []string{"rtpengine", "/usr/bin/rtpengine", "/usr/sbin/rtpengine"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("rtpengine is not installed (Debian's package rtpengine-daemon)")
}

func startRtpengine(b *bed, r row) (system, error) {
	path, err := findRtpengine()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, "--config-file=none", "--table=-1", "--foreground", "--log-stderr", "--log-level=2",
		"--interface=device/"+relayDevice, "--interface=trunk/"+relayTrunk, "--listen-ng="+ngAddress,
		"--port-min=20000", "--port-max=59999", "--num-threads="+strconv.Itoa(rtpengineThreads), "--delete-delay=0")
	c, err := spawn(b.relayCPU, cmd)
	if err != nil {
		return nil, err
	}
	e := &rtpengine{child: c, suite: r.suite}
	if e.ng, err = net.Dial("udp", ngAddress); err == nil {
		err = e.await()
	}
	if err != nil {
		e.end()
		return nil, fmt.Errorf("rtpengine: %w", err)
	}
	return e, nil
}

// rtpengineThreads on its one processor: more than one makes it dearer, as measured here.
const rtpengineThreads = 1

func (e *rtpengine) pid() int { return e.cmd.Process.Pid }

func (e *rtpengine) stop() {
	e.ng.Close()
	e.end()
}

// await waits until it answers.
func (e *rtpengine) await() (err error) {
	for range 50 {
		if _, err = e.ask(100*time.Millisecond, map[string]any{"command": "ping"}); err == nil {
			return nil
		}
		select {
		case <-e.over:
			return errors.New("it does not run")
		case <-time.After(50 * time.Millisecond):
		}
	}
	return err
}

// open sets calls up: the trunk offers, the device answers.
func (e *rtpengine) open(calls []call) ([]route, error) {
	for i := range calls {
		if err := e.openOne(&calls[i], "call-"+strconv.Itoa(i)); err != nil {
			return nil, fmt.Errorf("rtpengine, call %d: %w", i, err)
		}
	}
	return throughRelay(calls), nil
}

func (e *rtpengine) openOne(c *call, id string) error {
	profile := "RTP/AVP"
	if c.Suite != "" {
		profile = "RTP/SAVP"
	}
	offer, err := e.ask(time.Second, map[string]any{"command": "offer", "call-id": id, "from-tag": "trunk",
		"sdp": describe(c.Trunk, "RTP/AVP", "", "", nil), "direction": []any{"trunk", "device"},
		"transport-protocol": profile, "ICE": "remove", "DTLS": "off", "replace": []any{"origin"}})
	if err != nil {
		return err
	}
	var tag string
	if c.ToDevice, _, tag, c.RelayKey, err = read(offer, c.Suite); err != nil {
		return err
	}
	answer, err := e.ask(time.Second, map[string]any{"command": "answer", "call-id": id, "from-tag": "trunk", "to-tag": "device",
		"sdp": describe(c.Device, profile, tag, c.Suite, c.DeviceKey), "replace": []any{"origin"}})
	if err != nil {
		return err
	}
	c.ToTrunk, _, _, _, err = read(answer, "")
	return err
}

// ask sends a command and gives the sdp of the answer.
func (e *rtpengine) ask(limit time.Duration, command map[string]any) (sdp []byte, err error) {
	e.cookie++
	cookie := strconv.Itoa(e.cookie) + " "
	if _, err := e.ng.Write(bencode([]byte(cookie), command)); err != nil {
		return nil, err
	}
	_ = e.ng.SetReadDeadline(time.Now().Add(limit))
	buf := make([]byte, 65536)
	for {
		n, err := e.ng.Read(buf)
		if err != nil {
			return nil, err
		}
		body, ours := bytes.CutPrefix(buf[:n], []byte(cookie))
		if !ours {
			continue // the answer to an older one
		}
		if result := entry(body, "result"); string(result) != "ok" && string(result) != "pong" {
			return nil, fmt.Errorf("%s: %s", result, entry(body, "error-reason"))
		}
		return bytes.Clone(entry(body, "sdp")), nil
	}
}

// bencode appends a value. rtpengine does not mind the order of a dictionary.
func bencode(b []byte, v any) []byte {
	switch v := v.(type) {
	case string:
		return append(strconv.AppendInt(b, int64(len(v)), 10), ":"+v...)
	case []byte:
		return bencode(b, string(v))
	case []any:
		b = append(b, 'l')
		for _, item := range v {
			b = bencode(b, item)
		}
	case map[string]any:
		b = append(b, 'd')
		for key, item := range v {
			b = bencode(bencode(b, key), item)
		}
	}
	return append(b, 'e')
}

// entry finds a string by its key in an answer's dictionary. Nothing else in it is of interest.
func entry(b []byte, key string) []byte {
	_, after, ok := bytes.Cut(b, bencode(nil, key))
	length, text, colon := bytes.Cut(after, []byte(":"))
	n, err := strconv.Atoi(string(length))
	if !ok || !colon || err != nil || n > len(text) {
		return nil
	}
	return text[:n]
}
