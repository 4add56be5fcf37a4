package pushtest

import "time"

// SetClock makes the service's clock differ from this machine's: it is ahead
// by so much. It judges times by that clock, and tells it in the header Date.
func (s *Service) SetClock(ahead time.Duration) { s.ahead.Store(int64(ahead)) }

// now is the service's time.
func (s *Service) now() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }
