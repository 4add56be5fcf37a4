package siptest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Message is a SIP message as a list of lines, so that a scripted peer can say
// and see anything. It is read and written here and nowhere else: what the
// bridge's own parser gets wrong must show.
type Message struct {
	Start  string // request line or status line
	Header []Field
	Body   []byte
}

// Field is one header line.
type Field struct{ Name, Value string }

// ErrNotSIP is given for bytes that are no SIP message.
var ErrNotSIP = errors.New("not a SIP message")

// ParseMessage reads a whole message.
func ParseMessage(data []byte) (*Message, error) {
	head, body, ok := bytes.Cut(data, []byte("\r\n\r\n"))
	if !ok {
		return nil, fmt.Errorf("%w: no empty line after the headers", ErrNotSIP)
	}
	lines := strings.Split(string(head), "\r\n")
	m := &Message{Start: lines[0], Body: body}
	if !strings.Contains(m.Start, "SIP/2.0") {
		return nil, fmt.Errorf("%w: starts with %q", ErrNotSIP, m.Start)
	}
	for _, line := range lines[1:] {
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return nil, fmt.Errorf("%w: line %q has no header name", ErrNotSIP, line)
		}
		m.Header = append(m.Header, Field{strings.TrimSpace(name), strings.TrimSpace(value)})
	}
	if len(m.Body) == 0 {
		m.Body = nil
	}
	return m, nil
}

// readMessage reads the next message of a stream, past keep-alives.
func readMessage(r *bufio.Reader) (*Message, error) {
	var head []byte
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		if len(head) == 0 && string(line) == "\r\n" {
			continue // a keep-alive or its answer
		}
		head = append(head, line...)
		if string(line) == "\r\n" {
			break
		}
	}
	m, err := ParseMessage(head)
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(m.Get("Content-Length"))
	if err != nil {
		return nil, fmt.Errorf("%w: Content-Length %q on a stream", ErrNotSIP, m.Get("Content-Length"))
	}
	if n > 0 {
		m.Body = make([]byte, n)
		_, err = io.ReadFull(r, m.Body)
	}
	return m, err
}

// Bytes gives the message as it goes on the wire, with its Content-Length.
func (m *Message) Bytes() []byte {
	var b bytes.Buffer
	b.WriteString(m.Start + "\r\n")
	for _, f := range m.Header {
		if !strings.EqualFold(f.Name, "Content-Length") {
			b.WriteString(f.Name + ": " + f.Value + "\r\n")
		}
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n", len(m.Body))
	b.Write(m.Body)
	return b.Bytes()
}

// Get is the first value of a header; "" if it is absent.
func (m *Message) Get(name string) string {
	for _, f := range m.Header {
		if strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

// All are the values of a header, one for each line.
func (m *Message) All(name string) (values []string) {
	for _, f := range m.Header {
		if strings.EqualFold(f.Name, name) {
			values = append(values, f.Value)
		}
	}
	return values
}

// Add appends a header line.
func (m *Message) Add(name, value string) { m.Header = append(m.Header, Field{name, value}) }

// IsResponse tells responses from requests.
func (m *Message) IsResponse() bool { return strings.HasPrefix(m.Start, "SIP/2.0 ") }

// Code is a response's status; 0 for requests.
func (m *Message) Code() int {
	if !m.IsResponse() {
		return 0
	}
	code, _, _ := strings.Cut(m.Start[len("SIP/2.0 "):], " ")
	n, err := strconv.Atoi(code)
	if err != nil {
		return 0
	}
	return n
}

// Method is the method of a request, and of the request that a response
// answers.
func (m *Message) Method() string {
	if !m.IsResponse() {
		method, _, _ := strings.Cut(m.Start, " ")
		return method
	}
	_, method := m.cseq()
	return method
}

func (m *Message) cseq() (int, string) {
	number, method, _ := strings.Cut(m.Get("CSeq"), " ")
	n, err := strconv.Atoi(number)
	if err != nil {
		return 0, method
	}
	return n, strings.TrimSpace(method)
}

func (m *Message) branch() string { return param(m.Get("Via"), "branch") }

func (m *Message) tag(header string) string { return param(afterURI(m.Get(header)), "tag") }

// uri is the URI of a name-addr header such as Contact.
func (m *Message) uri(header string) string {
	value := m.Get(header)
	if _, rest, ok := strings.Cut(value, "<"); ok {
		uri, _, _ := strings.Cut(rest, ">")
		return uri
	}
	uri, _, _ := strings.Cut(value, ";")
	return uri
}

// afterURI is what follows the angle brackets: the header's own parameters.
func afterURI(value string) string {
	if i := strings.LastIndexByte(value, '>'); i >= 0 {
		return value[i:]
	}
	return value
}

// param is a parameter's value in ";a=b;c=d"; "" if it is absent.
func param(value, name string) string {
	for _, p := range strings.Split(value, ";")[1:] {
		key, val, _ := strings.Cut(strings.TrimSpace(p), "=")
		if strings.EqualFold(key, name) {
			return strings.Trim(val, `"`)
		}
	}
	return ""
}
