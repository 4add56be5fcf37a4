package mediabench

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Where the relay is, and where the generator plays (addresses for benchmarks, RFC 2544 appendix C).
const (
	relayDevice = "198.18.1.2"
	relayTrunk  = "198.18.2.2"
	peerDevice  = "198.18.1.1"
	peerTrunk   = "198.18.2.1"
	firstPort   = 10000 // of the generator's
)

// bed is the two namespaces with the generator running in its own.
type bed struct {
	relayCPU, otherCPU int
	generator          *child
	lock               *os.File
	ksoftirqd          []int
	peers              [linkCount][]byte // Ethernet address at the other end of each of the generator's links
}

// newBed makes all that the rows need. Links by their ends: relay-dev, relay-trunk here; gen-dev, gen-trunk, wire-out
// and wire-in at the generator.
func newBed() (*bed, error) {
	own := os.Getenv(ownEnv)
	if own == "" {
		return nil, errors.New("no network namespace can be made; run it as root")
	}
	b := &bed{ksoftirqd: findKsoftirqd()}
	if n, _ := fmt.Sscan(own, &b.relayCPU, &b.otherCPU); n < 2 {
		return nil, errors.New("there is one processor; the relay and the generator need one each")
	}
	_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1 << 17, Max: 1 << 17})
	var err error
	if b.lock, err = alone(); err != nil {
		return nil, err
	}
	if err = stay(b.otherCPU); err == nil {
		b.generator, err = startGenerator(b.otherCPU)
	}
	if err == nil {
		err = b.wire()
	}
	if err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

// alone waits until no other run measures on this machine: both would be spoilt. The file is the lock, until closed.
func alone() (*os.File, error) {
	f, free, err := tryAlone()
	if err != nil || free {
		return f, err
	}
	fmt.Fprintln(os.Stderr, "waiting for another run on this machine to end")
	return f, unix.Flock(int(f.Fd()), unix.LOCK_EX)
}

// tryAlone is alone without waiting.
func tryAlone() (f *os.File, free bool, err error) {
	f, err = os.OpenFile(filepath.Join(os.TempDir(), "reveille-mediabench.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	return f, err == nil && unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil, err
}

func (b *bed) close() {
	if b.generator != nil {
		b.generator.end()
	}
	// They would go with the generator's namespace, but some time later.
	_ = ip("link delete relay-dev")
	_ = ip("link delete relay-trunk")
	b.lock.Close()
}

// allowed lists the processors that this process may use.
func allowed() string {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return ""
	}
	var list []string
	for cpu := 0; len(list) < set.Count(); cpu++ {
		if set.IsSet(cpu) {
			list = append(list, strconv.Itoa(cpu))
		}
	}
	return strings.Join(list, " ")
}

// stay keeps all threads of this process on one processor, before all others.
func stay(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	tasks, err := os.ReadDir("/proc/self/task")
	for _, t := range tasks {
		tid, _ := strconv.Atoi(t.Name())
		_ = unix.SchedSetaffinity(tid, &set)
		first(tid, reading)
	}
	return err
}

// wire makes the links and addresses.
func (b *bed) wire() error {
	pid := strconv.Itoa(b.generator.cmd.Process.Pid)
	for _, args := range []string{
		"link set lo up",
		"link add relay-dev type veth peer name gen-dev netns " + pid,
		"link add relay-trunk type veth peer name gen-trunk netns " + pid,
		"link add wire-out netns " + pid + " type veth peer name wire-in netns " + pid,
		"address add " + relayDevice + "/24 dev relay-dev",
		"address add " + relayTrunk + "/24 dev relay-trunk",
	} {
		if err := ip(args); err != nil {
			return err
		}
	}
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0)
	macs := [linkCount][]byte{}
	if err := b.generator.call("links", []string{"gen-dev", "gen-trunk", "wire-out", "wire-in"}, &macs); err != nil {
		return err
	}
	for i, l := range []struct{ name, peer string }{{"relay-dev", peerDevice}, {"relay-trunk", peerTrunk}} {
		if err := up(l.name); err != nil {
			return err
		}
		ifc, err := net.InterfaceByName(l.name)
		if err != nil {
			return err
		}
		b.peers[i] = ifc.HardwareAddr
		mac := net.HardwareAddr(macs[i]).String()
		if err := ip("neighbour add " + l.peer + " lladdr " + mac + " nud permanent dev " + l.name); err != nil {
			return err
		}
	}
	b.peers[wireOut], b.peers[wireIn] = macs[wireIn], macs[wireOut]
	return nil
}

// ip configures the network of this process.
func ip(args string) error {
	program, err := exec.LookPath("ip")
	if err != nil {
		program = "/usr/sbin/ip" // not on everybody's PATH
	}
	if out, err := exec.Command(program, strings.Fields(args)...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", args, err, out)
	}
	return nil
}

// up brings a link up, with the checksums of what it sends computed.
func up(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	value := struct{ cmd, data uint32 }{unix.ETHTOOL_STXCSUM, 0}
	request := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:], name)
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); e != 0 {
		return fmt.Errorf("checksum offload of %s: %w", name, e)
	}
	return ip("link set " + name + " up")
}

// newCalls makes n calls without a relay.
func newCalls(n int, suite string) []call {
	calls := make([]call, n)
	for i := range calls {
		c := call{Suite: suite, Device: at(peerDevice, firstPort+2*i), Trunk: at(peerTrunk, firstPort+2*i)}
		if suite != "" {
			c.DeviceKey = newKey(suite)
		}
		calls[i] = c
	}
	return calls
}

func at(address string, port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(address), uint16(port))
}

// play gives the generator its load.
func (b *bed) play(routes []route) error {
	return b.generator.call("play", load{Routes: routes, Peers: b.peers}, nil)
}

// throughRelay are the routes of calls through a relay.
func throughRelay(calls []call) (list []route) {
	for _, c := range calls {
		r := c.routes()
		list = append(list, r[:]...)
	}
	return list
}

// straight are the routes of calls without one, over the wire or from link to link.
func straight(calls []call, out, in [2]int) (list []route) {
	for _, c := range calls {
		list = append(list,
			route{Out: out[0], In: in[0], Src: c.Device, Dst: c.Trunk, ArrivesSrc: c.Device, Arrive: c.Trunk},
			route{Out: out[1], In: in[1], Src: c.Trunk, Dst: c.Device, ArrivesSrc: c.Trunk, Arrive: c.Device})
	}
	return list
}
