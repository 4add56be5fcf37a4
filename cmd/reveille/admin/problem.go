package admin

import (
	"encoding/json"
	"net/http"
	"strings"
	"unicode"
)

// Problem is a problem document (RFC 9457 §3). The type is about:blank, so
// that the title is the status and the detail says what to do.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
}

func (s *server) problem(w http.ResponseWriter, status int, detail string) {
	s.write(w, status, "application/problem+json", Problem{"about:blank", http.StatusText(status), status, detail})
}

func (s *server) json(w http.ResponseWriter, v any) {
	s.write(w, http.StatusOK, "application/json", v)
}

func (s *server) write(w http.ResponseWriter, status int, kind string, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil { // a value that JSON does not have, such as NaN: a defect
		s.log.Error("an answer of the API could not be written", "err", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	if _, err := w.Write(append(body, '\n')); err != nil {
		s.log.Debug("an API client has gone", "err", err)
	}
}

// shown is how much of a request's own words an error repeats.
const shown = 80

// printable makes a client's text fit for an error: short, and no control
// characters.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, s)
	if r := []rune(s); len(r) > shown {
		s = string(r[:shown]) + "…"
	}
	return `"` + s + `"`
}
