package bridge

// SetExtensions replaces the extensions and their routes. Live calls keep what
// they were admitted with; on error nothing changes.
func (b *Bridge) SetExtensions(list []Extension) error {
	r, err := newRoutes(list)
	if err != nil {
		return err
	}
	b.routes.Store(r)
	return nil
}
