//go:build !linux

package rtp

import "net/netip"

// tryUDP reports whether a port is to be had.
func tryUDP(addr netip.AddrPort) error {
	conn, err := listenUDP(addr)
	if err != nil {
		return err
	}
	return conn.Close()
}
