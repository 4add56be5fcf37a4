package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"reveille/cmd/reveille/admin"
)

// asking are the flags of the commands that ask a running bridge.
type asking struct {
	json                    *bool
	server, tokenFile, file *string
}

const askingHelp = `
The bridge is found by --server; else by http.listen of the configuration named with -c; else of the file that serve
would take; else at http://127.0.0.1:8060. The token comes from --token-file, else from the same configuration.`

func askingFlags(flags *flag.FlagSet) asking {
	return asking{
		json:      flags.Bool("json", false, "print the API's answer as it is"),
		server:    flags.String("server", "", "the bridge's `URL`, such as http://192.0.2.5:8060"),
		tokenFile: flags.String("token-file", "", "a `FILE` with the API's bearer token"),
		file:      flags.String("c", "", "the bridge's configuration `FILE`"),
	}
}

// client asks one bridge.
type client struct {
	base  string
	token string
	http  *http.Client
}

// defaultServer is where a bridge without configuration listens.
const defaultServer = "http://127.0.0.1:8060"

// Answers come from memory; only a push test takes its time, 5 s for each
// device. maxAnswer holds a thousand calls with room to spare.
const (
	answerTimeout = time.Minute
	maxAnswer     = 64 << 20
)

// client finds the bridge.
func (p *process) client(a asking) (*client, error) {
	c := &client{base: strings.TrimRight(*a.server, "/"), http: &http.Client{
		Timeout:   answerTimeout,
		Transport: &http.Transport{Proxy: nil}, // the token is for the bridge alone
	}}
	if c.base == "" {
		if err := p.fromConfig(c, *a.file); err != nil {
			return nil, err
		}
	}
	if u, err := url.Parse(c.base); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("--server %q is no URL; write it as http://HOST:PORT", *a.server)
	}
	if *a.tokenFile != "" {
		token, err := os.ReadFile(*a.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("--token-file: %w", err)
		}
		c.token = strings.TrimSpace(string(token))
	}
	return c, nil
}

func (p *process) fromConfig(c *client, file string) error {
	if file == "" {
		file = findConfig()
	}
	if file == "" {
		c.base = defaultServer
		return nil
	}
	cfg, err := p.load(file)
	if err != nil {
		return fmt.Errorf("the bridge's address was to come from %s (--server URL needs no file):\n%w", file, err)
	}
	if cfg.HTTP.Listen == "" {
		return fmt.Errorf("http.listen is \"\" in %s: this bridge has no API to ask", file)
	}
	c.base, c.token = "http://"+reachable(cfg.HTTP.Listen), cfg.HTTP.Token.Reveal()
	return nil
}

// reachable makes an address to listen on one to ask: "0.0.0.0:8060" is this
// machine.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip.Is6() {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port)
}

// get asks for a path and gives the body.
func (c *client) get(ctx context.Context, path string) ([]byte, error) {
	return c.do(ctx, http.MethodGet, path)
}

func (c *client) do(ctx context.Context, method, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("the answer of %s broke off: %w", c.base, err)
	}
	if res.StatusCode >= 300 {
		return nil, problem(res, body)
	}
	return body, nil
}

func (c *client) unreachable(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("no bridge answers at %s; is `reveille serve` running? Another address: --server URL, or -c FILE", c.base)
	}
	return fmt.Errorf("%s cannot be reached: %w", c.base, err)
}

// problem tells what a problem document says, or what else came.
func problem(res *http.Response, body []byte) error {
	var p admin.Problem
	if json.Unmarshal(body, &p) != nil || p.Title == "" {
		return fmt.Errorf("the server answered %s; is this a bridge's API?", res.Status)
	}
	if p.Status == http.StatusUnauthorized {
		return errors.New("this bridge wants its token: use --token-file FILE, or -c with its configuration")
	}
	return errors.New(clean(p.Detail))
}

// ask is the whole of a command that shows one answer: get path, print it as
// it is or as show has it.
func ask[T any](ctx context.Context, p *process, a asking, path string, show func(T)) error {
	c, err := p.client(a)
	if err != nil {
		return err
	}
	body, err := c.get(ctx, path)
	if err != nil {
		return err
	}
	return p.present(a, body, func() error { return decode(body, show) })
}

// present prints the body as it is where --json says so.
func (p *process) present(a asking, body []byte, human func() error) error {
	if *a.json {
		_, err := p.stdout.Write(body)
		return err
	}
	return human()
}

func decode[T any](body []byte, show func(T)) error {
	var v T
	if err := json.Unmarshal(body, &v); err != nil {
		return fmt.Errorf("the answer cannot be read; is this a bridge's API? %w", err)
	}
	show(v)
	return nil
}
