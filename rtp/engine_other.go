//go:build !linux

package rtp

import "log/slog"

// systemEngine is the engine of real sockets.
func systemEngine(log *slog.Logger) engine { return &portable{log: log, listen: listenUDP} }
