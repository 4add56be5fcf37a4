package main

import (
	"bytes"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"reveille/cmd/reveille/app"
	"reveille/config"
)

func TestServeShowsAParkedCall(t *testing.T) {
	r := serveProcess(t)
	r.ask("calls").wants(t, 0, "no calls yet", "")
	r.park()
	r.ask("status").wants(t, 0, "1 live: 1 waking", "")
	r.ask("trunks").wants(t, 0, "carrier", "")
	r.ask("devices").wants(t, 0, "asleep", "")
	list := r.ask("calls")
	list.wants(t, 0, "waiting for a device to register; push sent for 1 device", "")
	id := strings.Fields(strings.Split(list.stdout, "\n")[1])[0]
	r.ask("calls", id).wants(t, 0, "INVITE", "")
	r.ask("calls", id, "--json").wants(t, 0, `"timeline": [`, "")
	r.ask("push-test", "1001").wants(t, 0, "device d1: sent", "")
	r.ask("push-test", "1002").wants(t, 1, "", `no extension "1002"`)
	r.signal(syscall.SIGKILL)
	r.exit()
	if got := r.stdout.String(); strings.Count(got, "push (no provider configured)") != 2 || strings.Contains(got, "token-of-d1") {
		t.Errorf("stdout is %q", got)
	}
}

func TestTermWithoutCallsEndsAtOnce(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		r := serveProcess(t)
		r.signal(signal)
		if code := r.exit(); code != 0 {
			t.Errorf("%v: exit code %d", signal, code)
		}
	}
}

func TestTermDrainsAndASecondEndsAtOnce(t *testing.T) {
	r := serveProcess(t)
	carrier := r.park()
	r.signal(syscall.SIGTERM)
	r.logged("draining")
	res, err := http.Get(r.http + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 503 {
		t.Errorf("/readyz gives %d while draining", res.StatusCode)
	}
	r.ask("status").wants(t, 0, "draining", "")
	r.signal(syscall.SIGTERM)
	awaitStatus(t, carrier, 503)
	if code := r.exit(); code != 1 {
		t.Errorf("exit code %d, want 1 for a drain that was cut short", code)
	}
}

func TestTermWaitsForTheLiveCall(t *testing.T) {
	r := serveProcess(t)
	r.park()
	id := strings.Fields(strings.Split(r.ask("calls").stdout, "\n")[1])[0]
	list := r.ask("calls", id, "--json").stdout
	uuid := list[strings.Index(list, `"uuid": "`)+9:][:36]
	r.signal(syscall.SIGTERM)
	r.logged("draining")
	req, err := http.NewRequest("DELETE", r.http+"/api/v1/calls/"+uuid, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 204 {
		t.Errorf("hanging up gives %d", res.StatusCode)
	}
	if code := r.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestHupReloads(t *testing.T) {
	r := serveProcess(t)
	r.configure(`extensons: []`)
	r.signal(syscall.SIGHUP)
	if line := r.logged("the configuration was not reloaded"); !strings.Contains(line["err"].(string), `did you mean "extensions"`) {
		t.Errorf("the fault is %v", line)
	}
	r.configure("media: {tone: us}\ndrain_timeout: 3s")
	r.signal(syscall.SIGHUP)
	r.logged("configuration reloaded")
	if line := r.logged("changes that need a restart"); !strings.HasSuffix(line["msg"].(string), ": media") {
		t.Errorf("what needs a restart: %v", line)
	}
	if err := os.Remove(r.file); err != nil {
		t.Fatal(err)
	}
	r.signal(syscall.SIGHUP)
	r.logged("the configuration was not reloaded")
	r.ask("status").wants(t, 0, "running", "")
}

func TestServeOnATakenPort(t *testing.T) {
	first := serveProcess(t)
	file := write(t, "second.yaml", "state_dir: \"\"\nhttp: {listen: \"\"}\nsip: {listen: [\"udp://"+first.sip+"\"]}\n")
	reveille(t, "serve", "-c", file).wants(t, 1, "", "another program has this port")
	file = write(t, "third.yaml", "state_dir: "+strings.TrimSuffix(first.file, "reveille.yaml")+"state\nhttp: {listen: \"\"}\nsip: {listen: [\"udp://127.0.0.1:0\"]}\n")
	reveille(t, "serve", "-c", file).wants(t, 1, "", "state")
}

func TestWelcomeShowsTheLoginOnce(t *testing.T) {
	cfg, name, password := config.Embedded()
	cfg.StateDir, cfg.HTTP.Listen = "", "127.0.0.1:0"
	cfg.SIP.Listen = []string{"udp://127.0.0.1:0", "tcp://127.0.0.1:0"}
	var out, logs bytes.Buffer
	signals := make(chan os.Signal, 2)
	s := &service{process: &process{stdout: &out, stderr: &logs, signals: signals}, name: name, password: password}
	s.log = newLogger(&logs, 0)
	var err error
	if s.app, err = app.New(cfg, app.Options{Log: s.log}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.run(t.Context()) }()
	<-s.app.Ready()
	signals <- syscall.SIGHUP
	signals <- syscall.SIGTERM
	select {
	case err := <-ended:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatal("serve does not end")
	}
	_, port, _ := strings.Cut(s.app.SIPAddresses()[0], "127.0.0.1:")
	for _, want := range []string{password, "user       1001", ":" + port + " ", "sipp -sn uac -s 1001 -m 1 127.0.0.1:" + port, "curl http://" + s.app.HTTPAddress()} {
		if strings.Count(out.String(), want) != 1 {
			t.Errorf("stdout has %q not once:\n%s", want, out.String())
		}
	}
	if strings.Contains(logs.String(), password) {
		t.Error("the password is in the log")
	}
	if !strings.Contains(logs.String(), "nothing to reload") {
		t.Errorf("the log is %s", logs.String())
	}
}
