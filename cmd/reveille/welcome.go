package main

import (
	"fmt"
	"net"
	"strings"
)

// welcome shows, for the embedded defaults, the one login there is and what to
// do with it. This is the only time that the password shows.
func (s *service) welcome() {
	if s.password == "" {
		return
	}
	port := sipPort(s.app.SIPAddresses())
	here := thisMachine()
	fmt.Fprintf(s.stdout, `
  Reveille runs without a configuration file.

  Put this into the phone:
    server     %s   (UDP or TCP)
    user       %s
    password   %s      new at each start without a file

  Then call it from this machine:
    sipp -sn uac -s %s -m 1 %s
  and see what became of the call:
    reveille calls%s

  Calls are taken from this machine only. To take them from a PBX or carrier, and to send real pushes, write a
  ./reveille.yaml; with no push service configured, pushes are printed here.

`, net.JoinHostPort(here, port), s.name, s.password, s.name, net.JoinHostPort("127.0.0.1", port), s.curl())
	s.password = ""
}

func (s *service) curl() string {
	if s.app.HTTPAddress() == "" {
		return ""
	}
	return "        (or: curl http://" + s.app.HTTPAddress() + "/api/v1/calls)"
}

// sipPort is the port of the first address, such as "udp://0.0.0.0:5060".
func sipPort(addresses []string) string {
	for _, a := range addresses {
		if _, port, err := net.SplitHostPort(a[strings.Index(a, "://")+3:]); err == nil {
			return port
		}
	}
	return "5060"
}

// thisMachine is the address from which this machine reaches the world, which
// is where a phone in the same network finds it. 192.0.2.1 is reserved for
// documentation (RFC 5737); connecting a UDP socket sends nothing.
func thisMachine() string {
	conn, err := net.Dial("udp", "192.0.2.1:9")
	if err != nil {
		return "127.0.0.1"
	}
	defer conn.Close()
	host, _, err := net.SplitHostPort(conn.LocalAddr().String())
	if err != nil {
		return "127.0.0.1"
	}
	return host
}
