package peertest

import "github.com/google/uuid"

// newInstance makes the UUID of a device's +sip.instance.
func newInstance() string { return uuid.NewString() }
