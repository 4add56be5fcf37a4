//go:build !linux

package rtp

import (
	"errors"
	"net"
)

// batches exist on Linux only.
type batches struct{}

// readBatches is not to be had here.
func (o *portableOutlet) readBatches(*net.UDPConn) error { return errors.ErrUnsupported }
