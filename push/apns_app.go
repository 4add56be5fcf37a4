package push

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// app is one app of one team: a topic, in one environment or in both.
type app struct {
	team, bundle string
	sides        map[string]*side // by environment
	learns       bool             // a token's environment is found out by trying
}

// side is an app in one environment.
type side struct {
	cfg     APNsConfig
	account *account
	voip    *layout
	alert   *layout // nil: the preset has no such form, see alertErr

	alertErr error
}

// newSide acquires the account, which is to be released also on error.
func (a *apns) newSide(cfg APNsConfig) (*side, error) {
	acc, err := a.accounts.acquire(cfg)
	if err != nil {
		return nil, err
	}
	a.acquired = append(a.acquired, acc)
	s := &side{cfg: cfg, account: acc}
	if s.voip, err = newLayout(cfg.PayloadConfig, formVoIP); err != nil && !cfg.alert() {
		return nil, fmt.Errorf("push.apns.%w", err)
	}
	if s.alert, s.alertErr = newLayout(cfg.PayloadConfig, formAlert); s.alertErr != nil && cfg.alert() {
		return nil, fmt.Errorf("push.apns.%w", s.alertErr)
	}
	return s, nil
}

// add puts a configured app beside those that are there. Two entries for one
// topic and team are one app with a key for each environment.
func (a *apns) add(cfg APNsConfig) error {
	s, err := a.newSide(cfg)
	if err != nil {
		return err
	}
	team := cfg.TeamID
	if cfg.Certificate != "" && team == "" {
		if c, err := loadCertificate(cfg.Certificate, cfg.CertificatePasswordFile, cfg.masterKeyFile); err == nil {
			team = c.team()
		}
	}
	var have *app
	for _, other := range a.apps[cfg.Topic] {
		if other.team == team {
			have = other
		}
	}
	if have == nil {
		have = &app{team: team, bundle: cfg.Topic, sides: map[string]*side{}}
		a.apps[cfg.Topic] = append(a.apps[cfg.Topic], have)
		a.count++
	}
	for _, env := range cfg.environments() {
		have.sides[env] = s
	}
	have.learns = have.sides[Production] != nil && have.sides[Sandbox] != nil &&
		have.sides[Production].host(Production) != have.sides[Sandbox].host(Sandbox)
	return nil
}

func (s *side) host(env string) string { return s.account.clients[env].Host }

// first is the environment of a token of which nothing is known.
func (a *app) first() string {
	if a.sides[Production] == nil {
		return Sandbox
	}
	return Production
}

// environment is where to try a target first: what is configured, else what
// has been learned of the token, else what the device says.
func (a *app) environment(t Target) string {
	switch {
	case len(a.sides) == 1:
		return a.first()
	case t.Environment == Production || t.Environment == Sandbox:
		return t.Environment
	case strings.EqualFold(t.Provider, apnsDevName):
		return Sandbox
	}
	return a.first()
}

// find gives the app of a pn-param, and whether that names the service for
// alerts alone. A bundle id may look like another form of pn-param, so the
// whole is compared first. With one app configured, a device that sent no
// pn-param means that one.
func (a *apns) find(param string) (found *app, remote bool) {
	if param == "" && a.count == 1 {
		for _, apps := range a.apps {
			return apps[0], false
		}
	}
	if apps := a.apps[param]; len(apps) > 0 {
		return apps[0], false
	}
	p, err := ParseAPNsParam(param)
	if err != nil {
		return nil, false
	}
	if found = a.of(p.Team, p.Bundle); found != nil {
		return found, false
	}
	bundle, remote := strings.CutSuffix(p.Bundle, remoteSuffix)
	if !remote {
		return nil, false
	}
	return a.of(p.Team, bundle), true
}

// of gives the app of a team. Without a team it is the first that is
// configured: two apps with one bundle id are one that has moved from one team
// to another, and who lists the new team first has the old installations, which
// say no team, served by it.
func (a *apns) of(team, bundle string) *app {
	for _, app := range a.apps[bundle] {
		if team == "" || app.team == "" || team == app.team {
			return app
		}
	}
	return nil
}

// choice is which push a device gets, by its tokens and the app's push_type.
type choice struct {
	token string
	alert bool
}

// choose picks the token. A device that has one for VoIP pushes gets those,
// unless the app wants alerts.
func (s *side) choose(prid string, remote bool) (choice, error) {
	tokens, err := ParseAPNsPRID(prid)
	if err != nil {
		return choice{}, err
	}
	if remote && !strings.Contains(prid, ":") { // pn-param says what the bare token is
		tokens.VoIP, tokens.Remote = "", tokens.VoIP
	}
	if tokens.Remote != "" && (s.cfg.alert() || tokens.VoIP == "") {
		return choice{tokens.Remote, true}, nil
	}
	if tokens.VoIP == "" {
		return choice{}, errors.New("the device has no token for this push")
	}
	return choice{tokens.VoIP, false}, nil
}

// layout is the payload's form for a choice.
func (s *side) layout(c choice) (*layout, error) {
	l := s.voip
	if c.alert {
		l = s.alert
	}
	if l == nil {
		return nil, cmp.Or(s.alertErr, errors.New("the payload's preset has no form for VoIP pushes, and the device has no token for alerts"))
	}
	return l, nil
}
