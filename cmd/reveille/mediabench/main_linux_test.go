package mediabench

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	roleEnv = "REVEILLE_MEDIABENCH_ROLE" // set in the processes that the benchmark starts of itself
	ownEnv  = "REVEILLE_MEDIABENCH_OWN"  // set in a network namespace of its own, to the processors that may be used
)

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleEnv); role {
	case "":
	case "generator":
		serve(generatorMethods())
	case "ours":
		serve(oursMethods())
	case "plain":
		serve(plainMethods())
	default:
		fmt.Fprintln(os.Stderr, "no such role:", role)
		os.Exit(2)
	}
	flag.Parse()
	if f := flag.Lookup("test.bench"); f != nil && f.Value.String() != "" && os.Getenv(ownEnv) == "" {
		enter() // does not return where it succeeds
	}
	code := m.Run()
	printResults()
	os.Exit(code)
}

// enter makes this process another one in a network namespace of its own, which is gone when the process is.
func enter() {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return // the benchmarks say what is missing
	}
	own, err := os.Executable()
	if err == nil {
		err = unix.Exec(own, os.Args, append(os.Environ(), ownEnv+"="+allowed()))
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(2)
}

// request and response are lines of JSON between the benchmark and its processes, on their standard input and output.
type request struct {
	Do   string
	With json.RawMessage
}

type response struct {
	Err    string `json:",omitempty"`
	Result json.RawMessage
}

type method func(with json.RawMessage) (any, error)

// does makes a method of a function.
func does[In, Out any](f func(In) (Out, error)) method {
	return func(with json.RawMessage) (any, error) {
		var in In
		if err := json.Unmarshal(with, &in); err != nil {
			return nil, err
		}
		return f(in)
	}
}

type none struct{}

// serve answers requests until the benchmark goes away, and ends the process.
func serve(methods map[string]method) {
	dec, enc := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var q request
		if err := dec.Decode(&q); err != nil {
			os.Exit(0)
		}
		var r response
		result, err := any(nil), error(nil)
		if do := methods[q.Do]; do != nil {
			result, err = do(q.With)
		} else {
			err = errors.New("no such method: " + q.Do)
		}
		if err == nil {
			r.Result, err = json.Marshal(result)
		}
		if err != nil {
			r.Err = err.Error()
		}
		if enc.Encode(r) != nil {
			os.Exit(0)
		}
	}
}

// child is a process of ours: this program in another role, or another program.
type child struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	enc  *json.Encoder
	dec  *json.Decoder
	over chan struct{} // closed when the process has ended
}

// Other programs' work should not show: all that is measured, and the generator, goes before it; the benchmark before
// them, so that it reads its clocks at the right time.
const (
	measured = 1 + iota
	reading
)

// first lets a thread of this process (0: the calling one), and what it starts, go before other programs. Without the
// permission it all works too, on a quiet machine.
func first(thread, priority int) {
	_ = unix.SchedSetAttr(thread, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: uint32(priority)}, 0)
}

// spawn starts a program on one processor, before others.
func spawn(cpu int, cmd *exec.Cmd) (*child, error) {
	c := &child{cmd: cmd, over: make(chan struct{})}
	cmd.Stderr = os.Stderr
	var out io.Reader
	var err error
	if c.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if out, err = cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	c.enc, c.dec = json.NewEncoder(c.in), json.NewDecoder(out)
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL // when the thread that starts it ends: see pinned
	if err := c.pinned(cpu); err != nil {
		return nil, err
	}
	return c, nil
}

// role starts this program in a role.
func role(name string, cpu int, change func(*exec.Cmd)) (*child, error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"="+name, "GODEBUG=asyncpreemptoff="+strconv.Itoa(b2i(name == "generator")))
	if change != nil {
		change(cmd)
	}
	return spawn(cpu, cmd)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// call asks the process for something.
func (c *child) call(do string, with, result any) error {
	raw, err := json.Marshal(with)
	if err != nil {
		return err
	}
	if err := c.enc.Encode(request{do, raw}); err != nil {
		return fmt.Errorf("%s: the process is gone: %w", do, err)
	}
	var r response
	if err := c.dec.Decode(&r); err != nil {
		return fmt.Errorf("%s: the process is gone: %w", do, err)
	}
	if r.Err != "" {
		return fmt.Errorf("%s: %s", do, r.Err)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(r.Result, result)
}

// end ends the process and waits for it.
func (c *child) end() {
	_ = c.in.Close()
	_ = c.cmd.Process.Kill()
	<-c.over
}

// pinned starts the process on a thread that has one processor and a priority above others', which the process inherits,
// and keeps the thread as long as the process lives.
func (c *child) pinned(cpu int) error {
	result := make(chan error)
	go func() {
		defer close(c.over)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		var set unix.CPUSet
		set.Set(cpu)
		err := unix.SchedSetaffinity(0, &set)
		if err == nil {
			first(0, measured)
			err = c.cmd.Start()
		}
		result <- err
		if err == nil {
			_, _ = c.cmd.Process.Wait()
		}
	}()
	return <-result
}
