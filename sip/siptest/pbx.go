package siptest

import (
	"strings"
	"time"
)

// Registrar makes the trunk a PBX that takes every REGISTER, for the time that
// is asked for.
func (t *Trunk) Registrar() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.onRegister = func(s *served) {
		_, rest, _ := strings.Cut(s.request.uri("To"), ":")
		user, _, _ := strings.Cut(rest, "@")
		contact, expires := s.request.Get("Contact"), s.request.Get("Expires")
		if expires == "0" {
			delete(t.contacts, user)
			t.respond(s, 200, nil)
			return
		}
		t.contacts[user] = s.request.uri("Contact")
		t.respond(s, 200, nil, Field{"Contact", contact + ";expires=" + expires})
	}
}

// Registered waits until the user is registered, and gives the URI of its
// Contact; "" if that does not happen in time.
func (t *Trunk) Registered(user string, within time.Duration) string {
	for until := time.Now().Add(within); time.Now().Before(until); {
		t.mu.Lock()
		contact := t.contacts[user]
		t.mu.Unlock()
		if contact != "" {
			return contact
		}
		pause := time.NewTimer(10 * time.Millisecond)
		<-pause.C
	}
	return ""
}
