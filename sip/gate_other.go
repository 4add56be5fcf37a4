//go:build !linux

package sip

import (
	"net"
	"sync/atomic"
)

// gate is made on Linux only; elsewhere an idle connection costs a little more.
type gate struct {
	net.Conn
	idle atomic.Bool
}

func newGate(conn net.Conn) net.Conn { return conn }

func (g *gate) wait() error { return nil }
