//go:build !linux || !(amd64 || arm64)

package kernel

import (
	"log/slog"
	"time"
)

// Path is the fast path of one relay. There is none on this system.
type Path struct{}

// Open gives ErrUnsupported.
func Open(_, _ uint16, _ time.Duration, _ *slog.Logger) (*Path, error) { return nil, ErrUnsupported }

// Clock is the clock that a program would use.
func Clock() time.Duration { return 0 }

// Install reports false.
func (*Path) Install(*Flow, *Reception) bool { return false }

// Remove reports false.
func (*Path) Remove(uint16, *Reception) bool { return false }

// Read does nothing.
func (*Path) Read(uint16, *Reception) {}

// Streams is 0.
func (*Path) Streams() int { return 0 }

// Close does nothing.
func (*Path) Close() {}
