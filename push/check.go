package push

// tokenChecker is a Provider that knows what its tokens look like.
type tokenChecker interface {
	checkToken(prid string) error
}

// CheckToken says what is wrong with a pn-prid for the provider that serves
// this pn-provider; the error never has the token in it. It is nil where the
// provider takes any, or is not configured: see Supports.
func (s *Sender) CheckToken(provider, prid string) error {
	if c, ok := s.current().provider(provider).(tokenChecker); ok {
		return c.checkToken(prid)
	}
	return nil
}

func (a *apns) checkToken(prid string) error {
	_, err := ParseAPNsPRID(prid)
	return err
}
