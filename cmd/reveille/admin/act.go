package admin

import (
	"errors"
	"net/http"
	"slices"

	"reveille/bridge"
)

func (s *server) hangup(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("uuid")
	err := s.Calls.Hangup(id)
	switch {
	case errors.Is(err, bridge.ErrNoCall):
		s.problem(w, http.StatusNotFound, "no live call "+printable(id))
	case err != nil:
		s.problem(w, http.StatusInternalServerError, err.Error())
	default:
		s.log.Info("an administrator hung up", "call", id, "client", r.RemoteAddr)
		w.WriteHeader(http.StatusNoContent)
	}
}

func (s *server) pushTest(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if !slices.ContainsFunc(s.Extensions(), func(e bridge.Extension) bool { return e.Name == name }) {
		s.problem(w, http.StatusNotFound, "no extension "+printable(name))
		return
	}
	s.log.Info("an administrator tests the push", "aor", name, "client", r.RemoteAddr)
	pushes, err := s.Calls.TestPush(r.Context(), name)
	if err != nil {
		s.problem(w, http.StatusBadGateway, err.Error())
		return
	}
	if pushes == nil {
		pushes = []bridge.PushRecord{}
	}
	s.json(w, PushTest{pushes})
}
