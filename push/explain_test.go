package push

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"reveille/push/pushtest"
)

// TestPushSaysTheCause: what a push to a device says of its failure leads to
// the fault itself, not to the next best one.
func TestPushSaysTheCause(t *testing.T) {
	refused := func(context.Context, string, string) (net.Conn, error) {
		return (&net.Dialer{}).Dial("tcp", closedPort)
	}
	missing := func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.DNSError{Err: "no such host", Name: "push.invalid", IsNotFound: true}
	}
	for name, tt := range map[string]struct {
		config func(*APNsConfig)
		fault  func(*world)
		dial   DialFunc
		param  string
		want   []string
	}{
		"clock ahead":    {fault: func(w *world) { w.service.SetClock(-time.Hour) }, want: []string{"InvalidProviderToken", "this machine's clock is 1h", "ahead of that of APNs"}},
		"clock behind":   {fault: func(w *world) { w.service.SetClock(2 * time.Hour) }, want: []string{"ExpiredProviderToken", "this machine's clock is", "behind that of APNs"}},
		"another's key":  {config: func(a *APNsConfig) { a.KeyID = "ZZZZZ12345" }, want: []string{"push.apns.key_id is ZZZZZ12345", "AuthKey_"}},
		"revoked key":    {fault: func(w *world) { w.service.Revoke(w.cfg.APNs[0].KeyID) }, want: []string{"to key PUSHTEST", "of team TESTTEAM01", "not revoked"}},
		"one host alone": {config: func(a *APNsConfig) { a.Environment = Sandbox }, want: []string{"BadDeviceToken", "no token of sandbox", "environment: auto"}},
		"no authority":   {config: func(a *APNsConfig) { a.RootCA = "" }, want: []string{`signed by "pushtest CA"`, "push.apns.root_ca"}},
		"port closed":    {dial: refused, want: []string{"refuses connections", "firewall"}},
		"no such name":   {dial: missing, want: []string{"DNS: there is no host 127.0.0.1"}},
		"another app":    {param: "TESTTEAM01.com.example.other.voip", want: []string{`"TESTTEAM01.com.example.other.voip"`, "configured are TESTTEAM01.com.example.phone"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, pushtest.Options{}, Options{Dial: tt.dial}, tt.config)
			if tt.fault != nil {
				tt.fault(w)
			}
			out := w.send(testMessage("u1"), func(to *Target) {
				if tt.param != "" {
					to.Param = tt.param
				}
			})
			w.noSecrets(out)
			for _, want := range tt.want {
				if out.Err == nil || !strings.Contains(out.Err.Error(), want) {
					t.Errorf("%v, want %q", out.Err, want)
				}
			}
		})
	}
}

// TestDeadlineKeepsItsCause: plain words do not hide from another call that
// the one who pushed had no time left.
func TestDeadlineKeepsItsCause(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	<-ctx.Done()
	a := &answer{err: ctx.Err(), safe: true}
	out, _ := a.unanswered(ctx, Outcome{}, way{base: "https://push.example.test"})
	if out.Reason != "Deadline" || !errors.Is(out.Err, context.DeadlineExceeded) || !abandoned(out) ||
		out.Err.Error() != "there was no connection to push.example.test:443 in time" {
		t.Errorf("%+v", out)
	}
}
